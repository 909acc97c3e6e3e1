"""FewShotClassifier over the Hub of `fake_hub.py`: branches, pull requests, messages, tokens and caches."""

from ..fake_hub import TOKEN, FakeHub
from ..saved_levels import save_level_model
from .test_hub import client, docs_code


def test_a_classifier_is_pushed_and_loaded_with_all_options_of_the_hub(tmp_path):
    folder = save_level_model(tmp_path / "model", tmp_path / "encoders")
    (page,) = [code for code in docs_code() if "FewShotClassifier" in code]
    with FakeHub() as hub:
        client(hub, tmp_path / "page", f"exec({page.replace('you/', 'someone/')!r})")
        written = hub.files("someone/cooking-or-weather")
        assert sum(map(len, written.values())) < 60e6 and b"| cooking | 2 |" in written["README.md"]
        result = client(
            hub,
            tmp_path / "home",
            f"""
            from sklearn.base import clone
            from tests.saved_levels import fetched
            from modeling_msmaml import FewShotClassifier

            texts, labels = ["word1 word2", "word3 word1", "word5"], ["a", "a", "b"]
            classifier = FewShotClassifier("{folder}").fit(texts, labels)
            classifier.push_to_hub("someone/letters", token="{TOKEN}", commit_message="Letters")
            other = FewShotClassifier("{folder}").fit(texts, ["c", "d", "d"])
            pushed = other.push_to_hub("someone/letters", token="{TOKEN}", revision="side", commit_message="Others")
            proposed = other.push_to_hub("someone/letters", token="{TOKEN}", create_pr=True, commit_description="Why")
            result["pull request"] = proposed.pr_url
            result["without token"] = error(other.push_to_hub, "someone/letters", token="hf_wrong")

            cache = "{tmp_path}/cache"
            side = FewShotClassifier.from_pretrained("someone/letters", revision="side", cache_dir=cache, token=False)
            result["side"] = side.classes_.tolist()
            result["equal"] = (side.predict_proba(texts) == other.predict_proba(texts)).all().item()
            result["fetched"] = fetched(cache)
            at_commit = FewShotClassifier.from_pretrained("someone/letters", revision=pushed.oid)
            result["commit"] = at_commit.classes_.tolist()
            result["cloned"] = clone(side).fit(texts, ["e", "f", "f"]).classes_.tolist()
            offline = dict(cache_dir=cache, local_files_only=True, revision="side")
            again = FewShotClassifier.from_pretrained("someone/letters", **offline)
            result["offline"] = again.classes_.tolist()
            result["main"] = FewShotClassifier.from_pretrained("someone/letters").classes_.tolist()
            result["unknown"] = error(FewShotClassifier.from_pretrained, "someone/letters", revision="nowhere")
            """,
            token=None,
        )
        assert hub.messages("someone/letters") == ["Letters"]
        assert hub.messages("someone/letters", "side")[-1] == "Others"
        files = hub.files("someone/letters")
    assert {path.split("/")[1] for path in files if path.startswith("encoders/")} == {"text"}
    assert b"| a | 2 |" in files["README.md"]
    assert result["pull request"].endswith("/someone/letters/discussions/1")
    assert result["side"] == result["commit"] == result["offline"] == ["c", "d"] and result["equal"]
    assert result["main"] == ["a", "b"] and result["cloned"] == ["e", "f"] and result["fetched"] == ["text"]
    assert "401" in result["without token"] and "FileNotFoundError" in result["unknown"]
