"""What a person who installs the project calls: `import msmaml`, and the command `msmaml`."""
