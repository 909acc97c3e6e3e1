"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest
import torch

from .transformers_suite import MARKS

REPOSITORY = Path(__file__).resolve().parents[1]

# What `make fast` leaves out, with the reason: tests that use a fixture that takes seconds, and test functions whose
# parameters together take about two seconds or more by `pytest --durations=0`. test_project.py holds that all exist.
SLOW_FIXTURES = {
    "data_dir": "it builds a real data set",
    "page": "it drives a browser",
    "page_url": "it starts the page as a server",
    "peers_folder": "it is one of transformers' own tests",
    "pool": "it starts the workers of the page",
    "pushed": "it trains a run and pushes it",
    "site": "it builds the site of the documentation",
    "straight": "it trains a run in another process",
    "two": "it trains in two processes",
    "unpushed": "it trains runs in another process",
    "wheel": "it builds the wheel, most of them install it",
}
SLOW = {
    "it starts other processes": (
        "test_a_folder_is_pushed_with_its_card_and_without_checkpoints",
        "test_a_classifier_is_pushed_and_loaded_with_all_options_of_the_hub",
        "test_a_fault_that_passes_is_survived",
        "test_a_fault_that_stays_is_said_with_repository_file_and_remedy",
        "test_a_killed_run_goes_on",
        "test_a_killed_run_leaves_whole_files_and_goes_on_without_repeating_itself",
        "test_a_name_loads_what_it_needs",
        "test_a_tagged_commit_is_installed_under_its_tag",
        "test_a_repository_that_cannot_be_made_is_said_before_training",
        "test_a_redirect_to_another_host_is_followed_without_the_token",
        "test_a_short_campaign_loses_nothing",
        "test_a_notebook_runs_and_shows_what_is_stored",
        "test_auto_classes_load_with_the_package",
        "test_auto_classes_load_without_the_package",
        "test_a_release_is_built_to_the_same_bytes_again",
        "test_damaged_files",
        "test_damaged_files_of_all_kinds",
        "test_pip_takes_the_lock_with_required_hashes",
        "test_what_no_reading_may_do_is_noticed",
        "test_import_loads_nothing_before_it_is_used",
        "test_import_takes_little_longer_than_that_of_transformers",
        "test_its_command_runs_as_nobody_with_no_home",
        "test_killed_command_is_resumed",
        "test_memory_is_flat_over_200_meta_steps",
        "test_memory_is_flat_over_what_repeats",
        "test_other_modalities_are_not_read",
        "test_package_and_help_load_nothing_and_take_no_time",
        "test_pipeline_and_auto_classes_are_known_at_once",
        "test_processes_of_a_launcher_train_together_without_a_gpu",
        "test_processes_share_the_queries",
        "test_published_repository_loads_over_http",
        "test_the_largest_pictures_take_less_than_half_a_gigabyte",
        "test_run_that_early_stopping_ended_does_not_go_on",
        "test_two_processes_load_and_save_it",
        "test_two_processes_train_the_default_architecture_like_one",
        "test_with_checkpointing_memory_does_not_grow_with_the_number_of_inner_steps",
        "test_versions_come_from_tags",
        "test_what_goes_wrong_is_stopped_and_named",
        "test_what_is_changed_or_lies_elsewhere_is_no_release",
        "test_what_is_mixed_or_differs_is_lost",
        "test_who_reads_the_results_may_stop",
        "test_nothing_of_visitors_is_logged_and_nothing_is_left",
        "test_visitors_at_once_are_served_or_told_to_come_back",
        "test_nothing_damaged_is_left_in_the_cache_nor_taken_from_it",
        "test_pushes_go_on_or_say_what_failed",
        "test_what_needs_no_cache_works",
        "test_what_needs_one_says_what_to_set",
        "test_without_a_model_the_page_says_what_to_run",
    ),
    "it trains for a while": (
        "test_a_modality_is_added",
        "test_a_model_is_meta_trained",
        "test_a_real_run_on_synthetic_tasks",
        "test_a_resumed_run_ends_like_one_that_was_not_and_must_keep_its_classes",
        "test_a_run_resumes_bit_identically_whatever_the_clock_says",
        "test_adapted_classifier_goes_over_the_hub",
        "test_bf16_trains_like_float32",
        "test_checkpoint_that_gives_way_is_not_lost",
        "test_descriptors_are_whitened_within_classes_or_sources_of_the_data",
        "test_every_set_of_modalities_trains_evaluates_and_saves",
        "test_leave_one_out_makes_a_run_for_each_data_set",
        "test_resumed_run_ends_like_one_that_was_not_interrupted",
        "test_run_killed_at_random_moments_ends_like_one_that_was_not",
        "test_a_tutorial_runs_and_prints_what_it_shows",
        "test_run_with_stored_features_gives_the_results_of_one_without",
        "test_the_default_architecture_with_either_norm_reports_transduction",
    ),
    "it builds several data sets": (
        "test_a_damaged_piece_is_refused_and_fetched_anew",
        "test_all_pieces_are_fetched_once",
        "test_cache_follows_the_texts",
        "test_every_layout_gives_the_same_rows",
        "test_seven_sets_of_real_data_at_once",
        "test_training_texts_are_those_of_the_training_rows",
    ),
    "it loads the model that comes with the code": (
        "test_an_example_prints_what_the_readme_shows",
        "test_own_inputs_are_classified",
    ),
    "it reads the real weights of level encoders": (
        "test_audio_embedding_is_that_of_aisfx",
        "test_image_levels_are_those_of_timm",
        "test_text_levels_are_those_of_transformers",
        "test_texts_of_one_topic_are_close",
    ),
    "it compiles the model": (
        "test_compiled_model_gives_the_results_of_the_model",
        "test_compiled_training_with_first_order_gives_the_loss_of_the_model",
    ),
    "it runs a benchmark": (
        "test_meta_step_checks_gradients_and_reports_every_contender",
        "test_report_is_a_function_of_the_jsons",
        "test_settings_are_compared_on_classes_that_training_has_not_seen",
        "test_where_time_goes_reports_kinds_and_limits",
    ),
    "it writes a whole encoder as ONNX": (
        "test_a_classifier_on_levels_leaves_python",
        "test_the_page_runs_with_the_shipped_model",
    ),
    "it resamples sounds of many rates": ("test_every_odd_rate_is_quick_and_small",),
    "it goes through many architectures, in float64 or on the meta device": (
        "test_checkpointing_changes_no_result",
        "test_default_architecture_never_waits_for_the_device",
        "test_gradients_of_the_default_architecture_are_finite_in_half_precision",
        "test_no_result_depends_on_chunks",
        "test_outer_gradient_agrees_with_finite_differences",
        "test_reference_architecture_never_waits_for_the_device",
        "test_vectorised_tasks_equal_a_loop_over_tasks",
    ),
}


def pytest_configure(config: pytest.Config) -> None:
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: a test of transformers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is slow in one place, so that the tables can be compared with measured durations."""
    reasons = {name: reason for reason, names in SLOW.items() for name in names}
    for item in items:
        found = [SLOW_FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in SLOW_FIXTURES]
        if (name := getattr(item, "originalname", item.name)) in reasons:
            found.append(reasons[name])
        if found:
            item.add_marker(pytest.mark.slow(reason=found[0]))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real data and a published checkpoint: `../shared`, or `$MSMAML_SHARED`."""
    path = Path(os.environ.get("MSMAML_SHARED", REPOSITORY.parent / "shared")).resolve()
    if not path.is_dir():
        message = f"there is no folder {path} with real data; MSMAML_SHARED may name one"
        if os.environ.get("MSMAML_REQUIRE_SHARED") == "1":
            pytest.fail(message)
        pytest.skip(reason=message)
    return path


@pytest.fixture(scope="session")
def data_dir(shared_dir: Path) -> Path:
    return shared_dir / "data"


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> Path:
    """Where built data sets go, so that each is built once for all tests."""
    return tmp_path_factory.mktemp("built")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors are faster on one thread; and results are compared to the last bit, which the number can change."""
    torch.set_num_threads(1)


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    """Runs a test with one and with two intra-op threads: CPU kernels differ between the two."""
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)
