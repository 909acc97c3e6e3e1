"""Models over pictures on the Hub of `fake_hub.py`: their code goes with them, and the package is not needed."""

from ..fake_hub import FakeHub
from .test_hub import client

CONFIGS = {
    "gated": {"task_network": "conv2d", "task_encoder": "conv_gru", "kernel_size": 3},
    "residual": {"task_network": "resnet12", "task_encoder": "conv2d", "drop_block": 0.1},
}
PICTURES = """
def of_pictures(model):
    pictures = torch.randint(0, 256, (1, 7, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    task = {"support": pictures[:, :5], "support_labels": torch.arange(5)[None], "query": pictures[:, 5:]}
    with torch.no_grad():
        return model.eval()({"image": task}).logits["image"].tolist()
"""


def test_auto_classes_load_models_over_pictures_without_the_package(tmp_path):
    shared = {"modalities": ["image"], "image_size": 8, "num_layers": 2, "layer_widths": [3, 4], "num_inner_steps": 1}
    with FakeHub() as hub:
        pushed = client(
            hub,
            tmp_path / "pushes",
            PICTURES
            + f"""
from modeling_msmaml import MSMAMLConfig, MSMAMLModel
for name, options in {CONFIGS}.items():
    model = MSMAMLModel(MSMAMLConfig(**{shared}, **options))
    model.push_to_hub("someone/" + name)
    result[name] = of_pictures(model)
""",
        )
        loaded = client(
            hub,
            tmp_path / "loads",
            PICTURES
            + f"""
from transformers import AutoModel
for name in {list(CONFIGS)}:
    model = AutoModel.from_pretrained("someone/" + name, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules.")
    result[name] = of_pictures(model)
""",
            package=False,
            token=None,
        )
    assert loaded == pushed
