"""
Hook of `mkdocs build` (mkdocs.yml): the site has the pages of the repository under their own paths, README.md and
docs/quickstart.md among them, so that a relative link leads to the same page here and there.
"""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# What the site consists of, as patterns from the root of the repository.
PUBLISHED = (
    "*.md",
    "LICENSE",
    "NOTICE",
    "docs/**/*.md",
    "docs/**/*.png",
    "docs/**/*.svg",
    "data_builders/README.md",
    "demo/README.md",
    "examples/*.md",
    "examples/*.ipynb",
    "examples/*.py",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the theme, and those of the repository in place of those of `docs_dir`."""
    repository = Path(config.config_file_path).parent
    kept = [file for file in files if file.src_dir != config.docs_dir]
    paths = sorted({path for pattern in PUBLISHED for path in repository.glob(pattern)})
    own = [
        File(path.relative_to(repository).as_posix(), str(repository), config.site_dir, config.use_directory_urls)
        for path in paths
    ]
    return Files([*kept, *own])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page; where a link leads to code or a folder, which the site does not have, its text takes its place."""
    repository, folder = Path(config.config_file_path).parent, Path(page.file.src_uri).parent

    def shown(link: re.Match) -> str:
        target = os.path.normpath(folder / link[2])
        unpublished = (repository / target).exists() and files.get_file_from_path(target) is None
        return link[1] if unpublished else link[0]

    return re.sub(r"(?<!!)\[([^]]*)\]\(([^)\s#:]+)[^)\s]*\)", shown, markdown)
