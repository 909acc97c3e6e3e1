"""The README.md that is saved with a model."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from .run_report import RunReport

_TEMPLATE = Path(__file__).with_name("model_card_template.md")


def write_model_card(report: RunReport, folder: Path) -> Path:
    """Writes `folder/README.md` from the run's settings and results."""
    card = ModelCard.from_template(
        ModelCardData(library_name="transformers", tags=["few-shot-learning", "meta-learning", "ms-maml"]),
        template_path=str(_TEMPLATE),
        modalities=report.trainer.model.config.modalities,
        settings=report.settings(),
        table=report.table(),
    )
    path = folder / "README.md"
    card.save(path)
    return path
