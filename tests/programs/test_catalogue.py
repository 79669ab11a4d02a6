"""The list of faults that can occur in a run, each with the test that provokes it, or the reason why there is none.

T training, C checkpoints, W weights files, E evaluation, P prediction, L command line, B devices. Faults of data and
shards (D, S) are named in the tests of `prepare`, of the shards and of the loader.
"""

import ast
from pathlib import Path

import pytest

FAULTS = {
    "T1 loss stays at ln(classes)": "training/test_health::test_t1_stalled_run_is_saved_before_it_ends",
    "T1 a weak signal": "training/test_health::test_t1_weak_signal_is_refused_without_the_option",
    "T2 loss not finite": "training/test_health::test_t2_loss_that_is_not_finite_names_layer_and_images",
    "T3 NaN in a checkpoint": "runs/test_damage::test_c8_t3_tensors_or_metadata_that_do_not_fit_the_net_are_refused",
    "T4 NaN in one gradient": "training/test_health::test_t4_gradient_that_is_not_finite_is_found_by_replay",
    "T5 Ctrl-C once": "runs/test_faults::test_t5_t6_the_command_stops_and_says_how_to_resume",
    "T5 Ctrl-C twice": "runs/test_resume::test_t5_second_signal_stops_at_once",
    "T6 SIGTERM, SIGHUP, SIGUSR1": "runs/test_resume::test_t6_save_signal_saves_and_the_run_continues",
    "T7 signal while a checkpoint is written": "runs/test_resume::test_t7_a_signal_while_a_checkpoint_is_written",
    "T8 SIGKILL at any time": "runs/test_damage::test_t8_killed_at_random_moments",
    "T9 resumed within an epoch": "runs/test_resume::test_t9_t10_resumed_at_any_step_bits_and_log_are_the_same",
    "T10 resumed at the end of an epoch": "runs/test_resume::test_t9_t10_resumed_at_any_step_bits_and_log_are_the_same",
    "T10 resumed during a test": "runs/test_resume::test_stopped_during_a_test",
    "T11 settings of learning changed": "runs/test_resume::test_t11_learning_settings_may_change_with_change",
    "T11 another net, batch, seed": "runs/test_resume::test_t11_other_net_data_or_batch_settings_are_refused",
    "T12 other threads": "runs/test_resume::test_t12_another_number_of_threads_is_reported",
    "T12 other BLAS": "runs/test_resume::test_t12_another_blas_changes_the_fingerprint",
    "T13 a finished run": "runs/test_resume::test_t13_a_finished_run_stays_as_it_is",
    "T14 two at once": "runs/test_faults::test_t14_second_process_in_a_folder_is_refused",
    "T14 a stale lock": "runs/test_resume::test_t14_lock_of_a_dead_process_does_not_count",
    "T15 out of memory": "runs/test_faults::test_t15_out_of_memory",
    "T16 out of GPU memory": "runs/test_faults::test_t16_b6_gpu_errors_are_reported_in_one_line",
    "T17 a clock that jumps": "runs/test_resume::test_t17_clock_that_jumps_changes_nothing",
    "T18 log cannot be written": "runs/test_damage::test_t18_log_records_that_cannot_be_written_are_written_later",
    "T18 report cannot be written": "report/test_report::test_failing_to_write_the_page_ends_no_run",
    "T18 pipe closed": "runs/test_faults::test_t18_closed_pipe_does_not_end_training",
    "T18 terminal closed": "runs/test_damage::test_t18_closed_terminal_does_not_end_a_run",
    "T19 values out of range": "runs/test_faults::test_t19_t20_t21_invalid_values_are_refused",
    "T20 seeds": "runs/test_faults::test_t20_any_whole_number_is_a_seed_and_is_saved",
    "T21 unknown key": "runs/test_faults::test_t19_t20_t21_invalid_values_are_refused",
    "T23 dtype": "runs/test_faults::test_t23_training_computes_in_float32",
    "C1 killed before the rename": "runs/test_checkpoint::test_killed_before_the_rename",
    "C1 killed before the pruning": "runs/test_faults::test_c1_killed_between_the_rename_and_the_pruning",
    "C2 disk full": "runs/test_damage::test_c2_disk_full_at_some_writes",
    "C2 no room": "runs/test_damage::test_c2_checkpoint_is_not_started_without_room",
    "C3 no permission": "runs/test_damage::test_c3_folder_without_write_permission_is_reported_before_the_first_step",
    "C3 folder gone": "runs/test_damage::test_c3_folder_that_is_deleted_ends_the_run",
    "C4 truncated": "runs/test_damage::test_c4_c5_every_damage_is_detected_and_the_older_checkpoint_is_used",
    "C5 bits flipped": "runs/test_damage::test_c4_c5_every_damage_is_detected_and_the_older_checkpoint_is_used",
    "C6 pickle inside": "runs/test_damage::test_w1_foreign_files_are_refused_and_no_code_in_them_runs",
    "C7 bombs": "runs/test_damage::test_c7_huge_net_is_refused_from_the_header",
    "C8 tensors that differ": "runs/test_damage::test_c8_t3_tensors_or_metadata_that_do_not_fit_the_net_are_refused",
    "C8 all differences": "runs/test_damage::test_c8_all_differences_are_reported_and_nothing_is_loaded",
    "C8 other orders in memory": "runs/test_checkpoint::test_any_memory_order",
    "C9 newer format": "runs/test_damage::test_c9_newer_format_names_the_version_that_wrote_it",
    "C10 times of files": "runs/test_checkpoint::test_newest_uses_the_step_in_the_metadata",
    "C11 moved": "runs/test_damage::test_c11_moved_renamed_and_linked_runs_are_read",
    "C12 which are kept": "runs/test_resume::test_c12_newest_two_best_and_one_for_each_drop_are_kept",
    "C12 a damaged one does not count": "runs/test_checkpoint::test_damaged_checkpoint_does_not_count_as_kept",
    "C13 temporary file elsewhere": "runs/test_damage::test_c13_the_temporary_file_is_in_the_same_folder",
    "C14 read while written": "runs/test_resume::test_c14_reading_while_checkpoints_are_replaced",
    "C15 other form": "runs/test_damage::test_c15_weights_load_into_every_form_of_the_net",
    "C16 weights alone": "runs/test_damage::test_c16_resuming_from_weights_is_refused",
    "C17 power lost": "runs/test_damage::test_c17_file_is_flushed_before_it_is_renamed",
    "C18 background save": "runs/test_damage::test_c18_checkpoints_are_written_in_the_main_thread",
    "W1 pickles": "runs/test_damage::test_w1_foreign_files_are_refused_and_no_code_in_them_runs",
    "W2 headers that lie": "runs/test_damage::test_w2_inconsistent_headers_are_refused",
    "W3 Fortran order": "runs/test_checkpoint::test_any_memory_order",
    "W8 other classes": "commands/test_cli::test_evaluate_refuses_data_with_other_classes",
    "W9 download cut": "datasets/test_datasets::test_a_download_that_breaks_off",
    "W9 download of another file": "datasets/test_datasets::test_a_download_with_another_md5_is_thrown_away",
    "E1 not deterministic": "runs/test_faults::test_e1_prediction_is_deterministic",
    "E1 predict is evaluate": "commands/test_cli::test_predict_agrees_with_evaluate",
    "E2 last batch": "runs/test_faults::test_e2_e3_every_image_counts_once_whatever_the_batch",
    "E3 size of the batch": "runs/test_faults::test_e2_e3_every_image_counts_once_whatever_the_batch",
    "E4 ties": "training/test_evaluation::test_among_equal_probabilities_the_lower_label_ranks_first",
    "E4 NaN": "training/test_evaluation::test_nan_is_an_error",
    "P1 files that are not images": "runs/test_faults::test_p1_files_that_are_not_images",
    "P2 names of classes": "runs/test_damage::test_c8_t3_tensors_or_metadata_that_do_not_fit_the_net_are_refused",
    "L1 commands": "commands/test_cli::test_wrong_input_gives_one_line_and_its_exit_code",
    "L1 help": "commands/test_cli::test_help_of_every_command",
    "L1 start": "commands/test_cli::test_start_imports_no_heavy_packages",
    "L2 without CuPy": "runs/test_faults::test_l2_the_cpu_needs_no_cupy",
    "B1 no GPU": "runs/test_faults::test_b1_missing_gpu",
    "B2 devices mixed": "devices/test_fake::test_mixing_devices_raises",
    "B3 one GPU too few": "devices/test_cuda::test_no_such_gpu",
    "B4 late columns": "runs/test_faults::test_b4_delayed_copies_between_columns_change_nothing",
    "B6 error of an earlier step": "runs/test_faults::test_t16_b6_gpu_errors_are_reported_in_one_line",
    "B7 TF32": "runs/test_resume::test_b7_fingerprint_has_the_gpu_and_its_settings",
    "B8 fork": "runs/test_faults::test_b8_nothing_forks",
    "B8 forked by others": "devices/test_threads::test_predict_in_a_forked_process_after_predict_in_the_parent",
    "B9 threads of BLAS": "prepare/test_prepare_workers::test_each_worker_has_one_blas_thread_and_blocks_signals",
    "B9 threads of BLAS in training": "devices/test_device::test_blas_gets_one_thread_a_worker",
    "B10 sums in any order": "runs/test_faults::test_b10_no_sum_in_an_undefined_order",
}
UNTESTED = {
    "T15": "The message comes from the failed allocation, with its size; no smaller batch is suggested.",
    "T16": "CuPy's pool frees its memory and tries again by itself; CuPy tests this.",
    "T22": "Superseded: the workers multiply, each with a BLAS of one thread (B9).",
    "C13": "No NFS, FUSE or overlay is available to test on; a disk without locks is refused.",
    "C17": "A power cut cannot be provoked; the order flush, rename, flush is asserted instead.",
    "C18": "Nothing is saved in the background; this is asserted.",
    "E5": "Averaging over ten views is tested with the evaluation; the views are tested in test_loader.",
    "P2": "There is no separate file of names: they are in the checkpoint, and their number has to agree.",
    "L2": "Another NumPy would have to be installed; the package requires a suitable version.",
    "B5": "Two GPUs without peer access would be needed; CuPy then copies through the host.",
}
WANTED = {
    *(f"T{number}" for number in range(1, 24)),
    *(f"C{number}" for number in range(1, 19)),
    *("W1", "W2", "W3", "W8", "W9", "E1", "E2", "E3", "E4", "E5", "P1", "P2", "L1", "L2"),
    *(f"B{number}" for number in range(1, 11)),
}


def test_every_fault_has_a_test_or_a_reason():
    assert {name.split()[0] for name in FAULTS} | UNTESTED.keys() == WANTED
    assert WANTED - {name.split()[0] for name in FAULTS} == {"T22", "E5", "B5"}


@pytest.mark.parametrize("name", sorted(set(FAULTS.values())))
def test_the_test_is_there(name):
    file, _, test = name.partition("::")
    tree = ast.parse((Path(__file__).parents[1] / f"{file}.py").read_text(encoding="utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
