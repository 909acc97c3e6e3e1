"""Cards, reports, and what goes to the Hub and comes from it."""
