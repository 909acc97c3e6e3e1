"""The transformers pipeline `"few-shot-classification"`."""

import os
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from transformers import Pipeline, ProcessorMixin

from ..inputs.kinds import KINDS
from ..model.modeling_msmaml import MSMAMLModel
from ..model.uploads import UploadsEncoders
from .base_model import saved_file
from .pipeline_code import add_pipeline_code

# The package registers this pipeline whenever it is imported: the classifier, and scikit-learn with it, is imported by
# the methods that need it.
if TYPE_CHECKING:
    from .few_shot_classifier import FewShotClassifier


class EncodedInput(NamedTuple):
    """An input as the model takes it, (1, total)."""

    levels: Tensor


class FewShotClassificationPipeline(UploadsEncoders, Pipeline):
    """
    Classifies sounds, texts or pictures after a few labelled examples.

    ```python
    classify = pipeline("few-shot-classification", model=default_model())
    classify(["unknown.wav"], examples=["wren1.wav", "crow1.wav"], labels=["wren", "crow"])
    # [[{"label": "wren", "score": 0.9}, {"label": "crow", "score": 0.1}]]
    ```

    Examples given to `pipeline(...)` serve all calls; a model that [`FewShotClassifier.save_pretrained`] stored
    needs none.

    Args (of `pipeline(...)` or of a call):
        examples, labels: see [`FewShotClassifier.fit`].
        modality, sampling_rate: see [`FewShotClassifier`].
        num_inner_steps (`int`): gradient steps of the adaptation to `examples`; by default as in evaluation.
        reject_below (`float`): in [0, 1]; where the most probable class has a lower probability, an entry with the
            label `"unsure"` and that probability is put before the classes. By default that of a stored classifier.
        top_k (`int`): only the first entries; by default all.
    """

    # `Pipeline` declares any model, and that there may be none of these.
    model: MSMAMLModel
    processor: ProcessorMixin

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False

    def _sanitize_parameters(
        self,
        examples: Any = None,
        labels: Sequence[Hashable] | None = None,
        modality: str | None = None,
        sampling_rate: int | None = None,
        num_inner_steps: int | None = None,
        reject_below: float | None = None,
        top_k: int | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if (examples is None) != (labels is None):
            raise ValueError("give examples and labels together")
        for name, value in (("modality", modality), ("num_inner_steps", num_inner_steps)):
            if value is not None and examples is None:
                raise ValueError(f"{name}={value!r} has an effect only beside examples and labels")
        if reject_below is not None and not 0 <= reject_below <= 1:
            raise ValueError(f"reject_below={reject_below!r} must be a probability in [0, 1], or None")
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k={top_k!r} must be an integer of at least 1, or None for all classes")
        preprocess, forward, postprocess = {}, {}, {}
        if examples is not None and labels is not None:
            from .few_shot_classifier import FewShotClassifier

            options = {"modality": modality, "num_inner_steps": num_inner_steps, "reject_below": reject_below}
            classifier = FewShotClassifier(self.model, self.processor, device=str(self.device), **options)
            fitted = {"classifier": classifier.fit(examples, labels, sampling_rate)}
            preprocess |= fitted
            forward |= fitted
            postprocess |= fitted
        if sampling_rate is not None:
            preprocess["sampling_rate"] = sampling_rate
        if reject_below is not None:
            postprocess["reject_below"] = reject_below
        if top_k is not None:
            postprocess["top_k"] = top_k
        return preprocess, forward, postprocess

    def save_pretrained(self, save_directory: str | os.PathLike, max_shard_size: int | str = "50GB") -> None:
        """
        Stores the model with its processor and, if the pipeline has classes, the adapted classifier; beside them the
        code, with which `pipeline(..., trust_remote_code=True)` loads the folder without this package.

        Args:
            max_shard_size: of the files of a model without classes; `push_to_hub` gives it.
        """
        classifier = self._forward_params.get("classifier")
        if classifier is not None:
            classifier.save_pretrained(save_directory)
        else:
            self.model.save_pretrained(save_directory, max_shard_size=max_shard_size)
            self.processor.save_pretrained(save_directory)
            add_pipeline_code(save_directory)

    def _classifier(self, classifier: "FewShotClassifier | None") -> "FewShotClassifier":
        """The one of this call or pipeline, else the one that was saved with the model."""
        if classifier is not None:
            return classifier
        if not hasattr(self, "_saved"):
            from .classifier_files import CLASSIFIER_FILE
            from .few_shot_classifier import FewShotClassifier

            path, hub = self.model.name_or_path, self.model.fetched_with
            if not path or saved_file(path, CLASSIFIER_FILE, **hub) is None:
                raise ValueError(
                    "there are no classes yet: give examples and labels, or the folder of a saved FewShotClassifier"
                )
            given = FewShotClassifier(self.model, self.processor, device=str(self.device))
            self._saved = given.restored(path, **hub)
        return self._saved

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[Any]:
        """Encodes a whole list before its items go their way one by one, if the model reads levels: it is faster."""
        if isinstance(inputs, list) and inputs and self.model.reads_levels:
            classifier = self._classifier(preprocess_params.get("classifier"))
            levels = classifier.encode(inputs, preprocess_params.get("sampling_rate"))
            inputs = [EncodedInput(own) for own in levels.split(1)]
        options = (preprocess_params, forward_params, postprocess_params)
        return super().get_iterator(inputs, num_workers, batch_size, *options)

    def preprocess(
        self, inputs: Any, classifier: "FewShotClassifier | None" = None, sampling_rate: int | None = None
    ) -> dict[str, Tensor]:
        if isinstance(inputs, EncodedInput):
            return {"levels": inputs.levels}
        classifier = self._classifier(classifier)
        key = KINDS[classifier.modality_].key if classifier.modality_ in KINDS else "inputs"
        return {key: classifier.encode([inputs], sampling_rate)}

    def _forward(
        self, model_inputs: dict[str, Tensor], classifier: "FewShotClassifier | None" = None
    ) -> dict[str, Tensor]:
        (encoded,) = model_inputs.values()
        return {"logits": self._classifier(classifier).logits(encoded)}

    def postprocess(
        self,
        model_outputs: dict[str, Tensor],
        classifier: "FewShotClassifier | None" = None,
        reject_below: float | None = None,
        top_k: int | None = None,
    ) -> list[dict[str, Any]]:
        from .few_shot_classifier import UNSURE

        classifier = self._classifier(classifier)
        classes = classifier.classes_.tolist()
        below = classifier.reject_below if reject_below is None else reject_below
        if below is not None and UNSURE in classes:
            raise ValueError(f"a class is called {UNSURE!r}, which reject_below={below} predicts: rename the class")
        scores = model_outputs["logits"][0].double().softmax(dim=-1).tolist()
        order = sorted(range(len(classes)), key=lambda i: -scores[i])
        found = [{"label": classes[i], "score": scores[i]} for i in order]
        if below is not None and found[0]["score"] < below:
            found.insert(0, {"label": UNSURE, "score": found[0]["score"]})
        return found[:top_k]
