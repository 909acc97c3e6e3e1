import re
from pathlib import Path

from setuptools import find_packages, setup

# Lower bounds: the fast tests of version 0.1.0 were run with datasets 4.0.0, accelerate 1.6.0, evaluate 0.4.5 and timm
# 1.0.20, on torch 2.14.1; later, tests of the model and of options with transformers 5.4.0 and huggingface-hub 1.33.0.
# Where early stopping has ended a run that was killed just then, older releases train on when it is resumed. torch
# before 2.14 was not run.
# There is no upper bound on torch; but its binary must fit torchaudio's and torchvision's: constraints.txt holds a set
# that does, with which all tests run.
INSTALL_REQUIRES = [
    "transformers>=5.4",  # configs are dataclasses
    "datasets>=4.0",
    "accelerate>=1.6",  # transformers 5.0 cannot be imported with 1.1
    "evaluate>=0.4.5",
    "torch>=2.9",
    "torchaudio>=2.9",
    "timm>=1.0.20",
    "huggingface-hub>=1.5",
    "scikit-learn>=1.6",  # conventions of FewShotClassifier: clone, cross_val_score, pipelines
    "scipy>=1.11",  # intervals of cross-validation; scikit-learn needs it too
    "safetensors>=0.4.3",  # adapted classifiers on disk
    "soundfile>=0.13",  # decodes wav, flac, ogg and mp3; torchaudio's own decoder needs FFmpeg
    "gensim>=4.4",  # word vectors of the training documents
    "tokenizers>=0.22",  # the word-level tokenizer of the text modality
    "jaxtyping>=0.3",  # shapes in the annotations
    "matplotlib>=3.9",  # learning curves of every run
    "jinja2>=3.1",  # model card
    "pyyaml>=6.0",  # configs
    "numpy>=2.0",
    "pandas>=2.2",  # tables with labels and sources
    "pillow>=10.0",  # decodes pictures
    "pyarrow>=21.0",  # rows as datasets stores them
    "xxhash>=3.4",  # checksums of caches, which datasets needs too
    "filelock>=3.12",  # two processes build a cache once; datasets needs it too
    "tqdm>=4.66",  # progress of `msmaml classify`, which the Hub's client needs too
    "fsspec[http]>=2023.1",  # downloads that resume, over aiohttp
]

EXTRAS_REQUIRE = {
    "test": [
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",  # two processes in `make fast`
        "hypothesis>=6.100",
        "ruff>=0.9",
        "import-linter>=2.5",  # who may import whom, see pyproject.toml
        "pyright[nodejs]>=1.1.400",  # types; the extra is Node.js as a wheel
        "tensorboard>=2.18",
        "trackio>=0.43",
        "gradio>=6.0",  # the page, see web
        "playwright>=1.50",  # drives a real browser through it
        "shtab>=1.7",  # shell completion, see completion
    ],
    "bench": ["higher>=0.2.1", "torchopt>=0.7.3", "optree", "graphviz"],  # peers in benchmarks/
    "web": ["gradio>=6.0"],  # msmaml web
    "completion": ["shtab>=1.7"],  # msmaml completion
    "demo": ["tensorboard>=2.18"],
}

PACKAGES = ("modeling_msmaml", "data_builders", "msmaml")
VERSION = re.search(r'__version__ = "(.*)"', Path(__file__).with_name("msmaml").joinpath("__init__.py").read_text())[1]

setup(
    name="msmaml",
    version=VERSION,
    description="MS-MAML: one few-shot learner for audio, text and images, at home in the Hugging Face ecosystem",
    long_description=Path(__file__).with_name("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=[f"{name}{rest}" for name in PACKAGES for rest in ("", ".*")]),
    package_data={
        **{name: ["py.typed"] for name in PACKAGES},
        "modeling_msmaml.hub": ["*.md"],
        "data_builders.splits": ["*.json"],
    },
    entry_points={"console_scripts": ["msmaml = msmaml.__main__:main"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
)
