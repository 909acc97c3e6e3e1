"""The look of the page: its style sheet, its script and its theme, of which nothing comes from another site."""

from gradio.themes import Base, Default

CSS = """
.examples { display: flex; flex-wrap: wrap; gap: 8px; }
.example { width: 118px; font-size: 12px; overflow: hidden; }
.example.image { width: 96px; }
.example.text { width: 196px; }
.example audio { width: 118px; height: 28px; }
.example img { width: 100%; border-radius: 4px; }
.example blockquote { margin: 0 !important; padding: 4px 8px; border-left: 3px solid #8883; overflow-wrap: anywhere; }
.example .name { overflow-wrap: anywhere; opacity: .8; }
.message { padding: 8px 12px; border-radius: 6px; background: #3b82f620; border-left: 4px solid #3b82f6; }
.message { overflow-wrap: anywhere; }
.message + .message { margin-top: 8px; }
.message ul { margin: 4px 0 0; padding-left: 18px; list-style: disc; }
.message.error { background: #dc262620; border-color: #dc2626; }
.message.warning { background: #d9770620; border-color: #d97706; }
.probabilities { border-collapse: collapse; width: 100%; border: 0 !important; }
.probabilities td, .probabilities th { padding: 6px 12px 6px 6px; border: 0 !important; }
.probabilities td, .probabilities th { vertical-align: top; text-align: left; }
.probabilities tr { border: 0 !important; border-bottom: 1px solid #8883 !important; }
.bar { display: flex; align-items: center; gap: 6px; font-size: 13px; margin: 2px 0; }
.bar .label { width: 90px; overflow-wrap: anywhere; line-height: 1.1; }
.bar > :last-child { white-space: nowrap; min-width: 38px; text-align: right; }
.bar .track { flex: 1; min-width: 40px; background: #8882; border-radius: 3px; height: 14px; }
.bar .fill { height: 14px; border-radius: 3px; background: #94a3b8; }
.bar.best .fill { background: #2563eb; }
.bar.best { font-weight: 600; }
.neighbours { display: flex; flex-wrap: wrap; gap: 8px; }
.neighbour { width: 72px; font-size: 12px; }
.neighbour.text { width: 100%; min-width: 160px; }
.neighbour .example { width: 100% !important; }
.neighbour .name { overflow-wrap: anywhere; opacity: .8; }
.scrolls { max-width: 100%; overflow-x: auto; }
.charts { display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }
.chart { flex: 1 1 300px; min-width: 0; max-width: 520px; }
.confusion { border-collapse: collapse; font-size: 13px; }
.confusion caption { text-align: left; margin-bottom: 8px; max-width: 480px; }
.confusion td, .confusion th { padding: 4px 6px; text-align: center; overflow-wrap: break-word; }
.confusion th { max-width: 120px; }
.gradio-container:has(#stale .message) :is(#status, #curve, #results) { opacity: .45; filter: grayscale(1); }
.levels summary { font-size: 13px; margin-bottom: 4px; }
[data-testid="source-select"] { position: relative; z-index: 2; } /* the webcam's big button reached over it */
.file-preview .filename, .file-preview .stem { white-space: normal !important; overflow: visible !important; }
.file-preview .stem { overflow-wrap: anywhere; }
@media (max-width: 1023px) {
  .probabilities, .probabilities tbody, .probabilities tr, .probabilities td { display: block; width: 100%; }
  .probabilities tr.columns { display: none; }
  .probabilities tr.query { padding: 8px 0; }
  .probabilities td { padding: 4px 0; }
  .probabilities td::before { content: attr(data-column); display: block; font-size: 12px; opacity: .7; }
}
"""
# Gradio's button that adds files to others has another button inside, and no name: the outer one alone is reached, by
# mouse and keyboard, and opens the inner one.
SCRIPT = """() => {
  const mend = () => document.querySelectorAll("button.icon-button button.upload-container:not([inert])").forEach(
    (inner) => {
      const outer = inner.closest("button.icon-button");
      inner.inert = true;
      outer.ariaLabel = outer.title = "Add files";
      outer.addEventListener("click", (event) => { if (!inner.contains(event.target)) inner.click(); });
    }
  );
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  mend();
}"""


def theme() -> Base:
    """Returns colours of enough contrast, and fonts that every computer has."""
    return Default(
        primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
    )
