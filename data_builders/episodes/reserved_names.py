"""Names that no data set may have, since results and options are by modality and by data set alike."""

from modeling_msmaml.inputs.kinds import KINDS
from modeling_msmaml.model.modalities import registered_modalities


def check_data_set_name(argument: str, name: str, *modalities: str) -> None:
    """Checks that the name of a data set is not that of a modality.

    Args:
        argument: how the message calls the name.
        name: name of the data set.
        modalities: modalities besides those that models read.

    Raises:
        ValueError: the name is that of a modality.
    """
    if name in {*KINDS, *registered_modalities(), *modalities}:
        raise ValueError(
            f"{argument}={name!r} is the name of a modality, with which the data set would share results and options: "
            f"call it otherwise, for instance 'my_{name}'"
        )
