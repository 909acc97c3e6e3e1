import os
import re
from pathlib import Path

from packaging.version import Version
from setuptools import find_packages, setup
from setuptools_scm import ScmVersion, get_version
from setuptools_scm.version import guess_next_version

# Lower bounds: the fast tests of version 0.1.0 were run with datasets 4.0.0, accelerate 1.6.0, evaluate 0.4.5 and timm
# 1.0.20, on torch 2.14.1; later, tests of the model and of options with transformers 5.4.0 and huggingface-hub 1.33.0.
# Where early stopping has ended a run that was killed just then, older releases train on when it is resumed. torch
# before 2.14 was not run.
# There is no upper bound on torch; but its binary must fit torchaudio's and torchvision's: constraints.txt holds a set
# that does, with which all tests run.
#
# What classification needs. What only training, the web page or benchmarks need is in an extra below.
INSTALL_REQUIRES = [
    "transformers>=5.4",  # configs are dataclasses
    "torch>=2.9",
    "torchaudio>=2.9",  # resampling and spectrograms
    "timm>=1.0.20",  # the encoder of pictures
    "huggingface-hub>=1.5",  # models on the Hub
    "scikit-learn>=1.6",  # conventions of FewShotClassifier: clone, cross_val_score, pipelines
    "scipy>=1.11",  # intervals of cross-validation; scikit-learn needs it too
    "safetensors>=0.4.3",  # adapted classifiers on disk
    "soundfile>=0.13",  # decodes wav, flac, ogg and mp3; torchaudio's own decoder needs FFmpeg
    "tokenizers>=0.22",  # of texts
    "jaxtyping>=0.3",  # shapes in the annotations
    "packaging>=24.0",  # names the extra that brings a missing module
    "numpy>=2.0",
    "pillow>=10.0",  # decodes pictures
    "tqdm>=4.66",  # progress of `msmaml classify`, which the Hub's client needs too
]

EXTRAS_REQUIRE = {
    "train": [
        "datasets>=4.0",  # data sets, built once into Arrow files
        "accelerate>=1.6",  # Trainer; transformers 5.0 cannot be imported with 1.1
        "evaluate>=0.4.5",  # the metric
        "gensim>=4.4",  # word vectors of the training documents
        "matplotlib>=3.9",  # learning curves of every run
        "jinja2>=3.1",  # model card
        "pyyaml>=6.0",  # configs
        "pandas>=2.2",  # tables with labels and sources
        "pyarrow>=21.0",  # rows as datasets stores them
        "xxhash>=3.4",  # checksums of caches, which datasets needs too
        "filelock>=3.12",  # two processes build a cache once; datasets needs it too
        "fsspec[http]>=2023.1",  # downloads that resume, over aiohttp
    ],
    "web": [
        "gradio>=6.0",  # the page
        "matplotlib>=3.9",  # its colours of spectrograms
    ],
    "bench": [
        "msmaml[train]",
        "higher>=0.2.1",  # a peer in benchmarks/
        "torchopt>=0.7.3",  # another
        "optree",  # torchopt needs it
        "graphviz",  # torchopt imports it
    ],
    "demo": [
        "msmaml[train]",
        "tensorboard>=2.18",  # configs/quickstart.yaml logs for it
    ],
    "docs": [
        "mkdocs>=1.6",  # the site, from docs/
        "mkdocs-material>=9.6",  # its theme
        "mkdocstrings[python]>=0.28",  # its reference, from docstrings
    ],
    "test": [
        "msmaml[docs,export,train,web]",
        "setuptools-scm>=10",  # tests build the wheel without a network, from what is installed
        "pytest>=8",
        "pytest-timeout>=2.3",  # ends a test that hangs
        "pytest-xdist>=3.6",  # two processes in `make fast`
        "hypothesis>=6.100",  # inputs that no one thought of
        "parameterized>=0.9",  # of the common tests of transformers
        "ruff>=0.9",  # style
        "import-linter>=2.5",  # who may import whom, see pyproject.toml
        "pyright[nodejs]>=1.1.400",  # types; the extra is Node.js as a wheel
        "tensorboard>=2.18",  # logging of runs
        "trackio>=0.43",  # logging of runs
        "playwright>=1.50",  # drives a real browser through the page
        "axe-playwright-python>=0.1.8",  # axe-core, which finds what is hard to reach on the page
        "shtab>=1.7",  # shell completion, see completion
        "nbclient>=0.10",  # executes the notebooks in examples/
        "ipykernel>=6.29",  # in this kernel
        "optuna>=4.0",  # hyperparameter search
    ],
    "trackers": [
        "msmaml[train]",
        "tensorboard>=2.18",  # --report_to tensorboard
        "trackio>=0.43",  # --report_to trackio
        "wandb>=0.20",  # --report_to wandb
    ],
    "search": [
        "msmaml[train]",
        "optuna>=4.0",  # MetaTrainer.hyperparameter_search
    ],
    "release": [
        "uv>=0.9",  # requirements.lock
        "pip-audit>=2.9",  # known vulnerabilities
    ],
    "completion": ["shtab>=1.7"],  # msmaml completion
    "export": [
        "onnx>=1.18",  # the format of FewShotClassifier.export
        "onnxscript>=0.5",  # PyTorch's operators in that format
        "onnxruntime>=1.22",  # runs what was written, to see whether it gives the same probabilities
    ],
}

PACKAGES = ("modeling_msmaml", "data_builders", "msmaml")
# Folders of the repository that an installation needs, and where they lie in it: beside the code that looks for them.
DATA = {"modeling_msmaml.pretrained": "pretrained", "msmaml.configs": "configs"}
# Where the repository is, such as https://example.org/msmaml: an index shows the README outside of it.
REPOSITORY_URL = os.environ.get("REPOSITORY_URL", "").rstrip("/")
# The release that is being worked on. The version itself comes from the tags of the repository; see version_scheme.
PLANNED = "0.2.0"
RELEASE_TAGS = ("--match", "v[0-9]*.[0-9]*.[0-9]*", "--exclude", "v*[!0-9.rc]*")  # v0.2.0 and v0.2.0rc1


def version_scheme(found: ScmVersion) -> str:
    """The tag of this commit; elsewhere a development version before what is planned, and after the last tag."""
    tag = Version(str(found.tag))
    if found.exact and tag.release != (0, 0):  # which stands for none in an archive
        return str(tag)
    releases = (PLANNED, guess_next_version(found)) if tag.release != (0, 0) else (PLANNED,)
    return str(max(Version(f"{release}.dev{found.distance or 0}") for release in releases))


def version() -> str:
    """The version, also of an archive, and of a clone without tags, without its history or where there is no git."""
    return get_version(
        Path(__file__).parent,
        version_scheme=version_scheme,
        fallback_version=f"{PLANNED}.dev0",
        scm={"git": {"describe_command": ["git", "describe", "--dirty", "--tags", "--long", *RELEASE_TAGS]}},
    )


def long_description(readme: str, url: str) -> str:
    """The README with links that lead into the repository; without a url, with their texts in their place."""

    def absolute(link: re.Match) -> str:
        picture, label, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        kind = "raw" if picture else "blob"
        return f"{picture}[{label}]({url}/{kind}/HEAD/{target})" if url else "" if picture else label

    return re.sub(r"(!?)\[([^]]*)\]\(([^)\s]+)\)", absolute, readme)


setup(
    name="msmaml",
    version=version(),
    description="MS-MAML: one few-shot learner for audio, text and images, at home in the Hugging Face ecosystem",
    long_description=long_description(Path(__file__).with_name("README.md").read_text(), REPOSITORY_URL),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0 AND CC-BY-3.0 AND CC-BY-4.0",  # of the code, and of works of others, see NOTICE
    python_requires=">=3.11",
    author="The MS-MAML authors",
    keywords=["few-shot learning", "meta-learning", "MAML", "multimodal", "audio", "text", "images"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Graphics",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing",
        "Typing :: Typed",
    ],
    project_urls={
        **({"Repository": REPOSITORY_URL} if REPOSITORY_URL else {}),
        "MAML": "https://arxiv.org/abs/1703.03400",
        "MMAML": "https://arxiv.org/abs/1910.13616",
        "MS-MAML as published": "https://github.com/ermu2001/MSMAML",
    },
    packages=[*find_packages(include=[f"{name}{rest}" for name in PACKAGES for rest in ("", ".*")]), *DATA],
    package_dir=DATA,
    package_data={
        **{name: ["py.typed"] for name in PACKAGES},
        "modeling_msmaml.hub": ["*.md"],
        "data_builders.splits": ["*.json"],
        "modeling_msmaml.pretrained": ["**/*"],
        "msmaml.configs": ["**/*.yaml"],
        "msmaml.web": ["examples/**/*"],
    },
    entry_points={"console_scripts": ["msmaml = msmaml.__main__:main"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
)
