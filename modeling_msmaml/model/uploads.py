"""Uploads of saved models whose encoders lie in folders of folders, which transformers does not upload."""

import os
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers.utils.hub import PushToHubMixin

from .hub_files import uploaded
from .level_sources import ENCODERS


class UploadsEncoders(PushToHubMixin):
    """
    `PushToHubMixin` that uploads the encoders of a saved model as well, all in one commit.

    It overrides `_upload_modified_files`, which transformers' documentation does not promise: `push_to_hub` and
    `save_pretrained(push_to_hub=True)` call it in transformers 5.4.0 to 5.23.0. The original goes one folder deep.
    """

    def _upload_modified_files(
        self,
        working_dir: str | os.PathLike,
        repo_id: str,
        files_timestamps: dict[str, float],
        commit_message: str | None = None,
        token: bool | str | None = None,
        create_pr: bool = False,
        revision: str | None = None,
        commit_description: str | None = None,
    ) -> Any:
        folder, options = Path(working_dir), {"token": token, "create_pr": create_pr, "revision": revision}
        options |= {"commit_message": commit_message, "commit_description": commit_description}
        times = {path.name: path.stat().st_mtime for path in folder.iterdir()}
        # A file is another if its time differs: it may be earlier than before where a clock was set back.
        unchanged = {name: time for name, time in files_timestamps.items() if times.get(name) == time}
        if not (folder / ENCODERS).is_dir():
            upload = super()._upload_modified_files
            return uploaded(repo_id, lambda: upload(working_dir, repo_id, unchanged, **options))
        changed = [name for name in times if name not in unchanged and (folder / name).is_file()]
        hub = HfApi(token=token)
        if revision is not None and not revision.startswith("refs/pr"):
            hub.create_branch(repo_id, branch=revision, exist_ok=True)
        return uploaded(
            repo_id,
            lambda: hub.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                allow_patterns=[*changed, f"{ENCODERS}/*"],
                commit_message=commit_message or "Upload model",
                commit_description=commit_description,
                create_pr=create_pr,
                revision=revision,
            ),
        )
