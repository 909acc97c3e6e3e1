"""Example tasks, which a visitor can load: topics of sentences, everyday sounds, and drawings of things."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("examples")  # a folder per modality and class; NOTICE says where they come from
N_EXAMPLES = 5  # per class; the others are queries
CLASSES = {"audio": ("dog", "rooster", "rain"), "image": ("boat", "musical instrument", "reptile")}
SENTENCES = {
    "cooking": (
        *("Whisk two eggs with a pinch of salt.", "Let the dough rise overnight.", "Chop the onions finely."),
        *("Simmer the sauce for ten minutes.", "Grease the tin with butter.", "Bake it until the crust is golden."),
        "Season the soup with pepper.",
    ),
    "weather": (
        *("Rain is expected in the afternoon.", "A cold wind blows from the north.", "Clouds will clear by noon."),
        *("Temperatures drop below zero tonight.", "A storm is heading for the coast.", "Fog lingers in the valleys."),
        "Tomorrow will be sunny and warm.",
    ),
    "football": (
        *("The striker scored twice.", "The referee showed a red card.", "They lost the final on penalties."),
        *("The keeper saved a free kick.", "The coach changed the defence.", "A late goal won the match."),
        "The midfielder passed to the winger.",
    ),
}


@dataclass(frozen=True)
class ExampleTask:
    """A task that a visitor can load.

    Attributes:
        names: the names of the classes.
        examples: the paths or texts of the examples of each class.
        queries: the paths or texts to classify.
    """

    names: list[str]
    examples: list[list[str]]
    queries: list[str]


def example_task(modality: str) -> ExampleTask:
    """Returns the example task of a modality, `"audio"`, `"text"` or `"image"`."""
    own = dict(SENTENCES)
    if modality != "text":
        own = {name: tuple(map(str, _files(modality, name))) for name in CLASSES[modality]}
    queries = [item for items in own.values() for item in items[N_EXAMPLES:]]
    return ExampleTask(list(own), [list(items[:N_EXAMPLES]) for items in own.values()], queries)


def _files(modality: str, name: str) -> list[Path]:
    return sorted(
        path for path in (FOLDER / modality / name.replace(" ", "_")).iterdir() if not path.name.startswith(".")
    )
