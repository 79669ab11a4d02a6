"""The catalogue of faults that may befall a run, each with the test that provokes it, or the reason why none does.

T training, C checkpoints, W weights files, E evaluation, P prediction, L command line, B devices. Those of data and
shards (D, S) are named in the tests of `prepare`, the shards and the loader.
"""

import ast
from pathlib import Path

import pytest

FAULTS = {
    "T1 loss stays at ln(classes)": "training/test_health::test_t1_a_run_that_stalls_is_saved_before_it_ends",
    "T1 a weak signal": "training/test_health::test_t1_a_weak_signal_is_refused_unless_somebody_insists",
    "T2 loss is no number": "training/test_health::test_t2_a_loss_that_is_no_number_names_layer_and_images",
    "T3 NaN in a checkpoint": "runs/test_damage::test_c8_t3_what_is_not_of_this_net",
    "T4 NaN in one gradient": "training/test_health::test_t4_a_gradient_that_is_no_number_is_found_by_replay",
    "T5 Ctrl-C once": "runs/test_faults::test_t5_t6_the_command_stops_and_says_how_to_go_on",
    "T5 Ctrl-C twice": "runs/test_resume::test_t5_the_second_signal_leaves_at_once",
    "T6 SIGTERM, SIGHUP, SIGUSR1": "runs/test_resume::test_t6_a_signal_to_save_saves_and_the_run_goes_on",
    "T7 signal while a checkpoint is written": "runs/test_resume::test_t7_a_signal_while_a_checkpoint_is_written",
    "T8 SIGKILL at any time": "runs/test_damage::test_t8_some_kills",
    "T9 resumed within an epoch": "runs/test_resume::test_t9_t10_from_any_step_the_same_bits_and_the_same_log",
    "T10 resumed at a border": "runs/test_resume::test_t9_t10_from_any_step_the_same_bits_and_the_same_log",
    "T10 resumed amid a test": "runs/test_resume::test_stopped_amid_a_test",
    "T11 settings of learning changed": "runs/test_resume::test_t11_learning_may_change_if_somebody_says_so",
    "T11 another net, batch, seed": "runs/test_resume::test_t11_what_makes_another_run_is_refused",
    "T12 other threads": "runs/test_resume::test_t12_another_number_of_threads_is_told",
    "T12 other BLAS": "runs/test_resume::test_t12_another_blas_is_told",
    "T13 a finished run": "runs/test_resume::test_t13_a_finished_run_stays_as_it_is",
    "T14 two at once": "runs/test_faults::test_t14_two_at_once",
    "T14 a stale lock": "runs/test_resume::test_t14_the_lock_is_the_kernels",
    "T15 out of memory": "runs/test_faults::test_t15_more_memory_than_there_is",
    "T16 out of the card's memory": "runs/test_faults::test_t16_b6_what_a_card_says",
    "T17 a clock that jumps": "runs/test_resume::test_t17_no_clock_decides",
    "T18 log cannot be written": "runs/test_damage::test_t18_a_log_that_cannot_be_written_is_written_later",
    "T18 pipe closed": "runs/test_faults::test_t18_a_pipe_that_closes_does_not_end_training",
    "T18 terminal closed": "runs/test_damage::test_t18_a_terminal_that_has_gone_does_not_end_a_run",
    "T19 values out of range": "runs/test_faults::test_t19_t20_t21_values_that_cannot_be_meant",
    "T20 seeds": "runs/test_faults::test_t20_any_whole_number_is_a_seed_and_is_kept",
    "T21 unknown key": "runs/test_faults::test_t19_t20_t21_values_that_cannot_be_meant",
    "T23 dtype": "runs/test_faults::test_t23_what_the_loader_gives_is_computed_in_float32",
    "C1 killed before the rename": "runs/test_checkpoint::test_killed_before_the_rename",
    "C1 killed before the pruning": "runs/test_faults::test_c1_killed_between_the_rename_and_the_pruning",
    "C2 disk full": "runs/test_damage::test_c2_some_points_at_which_the_disk_is_full",
    "C2 no room": "runs/test_damage::test_c2_a_checkpoint_that_will_not_fit_is_not_begun",
    "C3 no permission": "runs/test_damage::test_c3_a_folder_that_cannot_be_written_is_known_before_the_first_step",
    "C3 folder gone": "runs/test_damage::test_c3_a_folder_that_vanishes_ends_the_run",
    "C4 truncated": "runs/test_damage::test_c4_c5_every_damage_is_seen_and_the_one_before_is_taken",
    "C5 bits flipped": "runs/test_damage::test_c4_c5_every_damage_is_seen_and_the_one_before_is_taken",
    "C6 pickle inside": "runs/test_damage::test_w1_foreign_files_are_refused_and_nothing_in_them_runs",
    "C7 bombs": "runs/test_damage::test_c7_a_net_too_large_to_be_true_is_refused_from_the_header",
    "C8 tensors that differ": "runs/test_damage::test_c8_t3_what_is_not_of_this_net",
    "C8 all differences told, nothing loaded": "runs/test_damage::test_c8_all_differences_are_told_and_nothing_is_loaded",
    "C8 other orders in memory": "runs/test_checkpoint::test_any_memory_order",
    "C9 newer format": "runs/test_damage::test_c9_a_newer_format_says_which_version_wrote_it",
    "C10 times of files": "runs/test_checkpoint::test_newest_goes_by_the_step_inside",
    "C11 moved": "runs/test_damage::test_c11_moved_renamed_and_linked",
    "C12 which are kept": "runs/test_resume::test_c12_two_the_best_and_one_for_each_drop",
    "C12 a damaged one does not count": "runs/test_checkpoint::test_a_good_one_is_not_removed_for_a_damaged_one",
    "C13 temporary file elsewhere": "runs/test_damage::test_c13_the_temporary_file_is_in_the_same_folder",
    "C14 read while written": "runs/test_resume::test_c14_who_reads_while_it_is_written_finds_all_of_it",
    "C15 other form": "runs/test_damage::test_c15_either_form_of_the_net_takes_them",
    "C16 weights alone": "runs/test_damage::test_c16_to_go_on_from_weights_is_refused_by_name",
    "C17 power lost": "runs/test_damage::test_c17_all_of_it_is_on_the_disk_before_it_has_its_name",
    "C18 background save": "runs/test_damage::test_c18_nothing_is_saved_behind_the_loops_back",
    "W1 pickles": "runs/test_damage::test_w1_foreign_files_are_refused_and_nothing_in_them_runs",
    "W2 headers that lie": "runs/test_damage::test_w2_headers_that_lie",
    "W3 Fortran order": "runs/test_checkpoint::test_any_memory_order",
    "W8 other classes": "commands/test_cli::test_evaluate_on_other_classes",
    "W9 download cut": "datasets/test_datasets::test_a_download_that_breaks_off",
    "W9 download of another file": "datasets/test_datasets::test_a_download_with_another_md5_is_thrown_away",
    "E1 not deterministic": "runs/test_faults::test_e1_the_same_image_twice",
    "E1 predict is evaluate": "commands/test_cli::test_predict_equals_evaluate",
    "E2 last batch": "runs/test_faults::test_e2_e3_every_image_counts_once_whatever_the_batch",
    "E3 size of the batch": "runs/test_faults::test_e2_e3_every_image_counts_once_whatever_the_batch",
    "E4 ties": "training/test_evaluation::test_of_equals_the_lower_number_comes_first",
    "E4 NaN": "training/test_evaluation::test_a_number_that_is_none_is_an_error",
    "P1 pictures that are none": "runs/test_faults::test_p1_pictures_that_are_none",
    "P2 names of classes": "runs/test_damage::test_c8_t3_what_is_not_of_this_net",
    "L1 commands": "commands/test_cli::test_one_line_and_the_right_code",
    "L1 help": "commands/test_cli::test_help_of_every_command",
    "L1 start": "commands/test_cli::test_starts_without_what_it_does_not_need",
    "L2 without CuPy": "runs/test_faults::test_l2_the_processor_needs_no_cupy",
    "B1 no card": "runs/test_faults::test_b1_a_card_that_is_not_there",
    "B2 devices mixed": "devices/test_fake::test_mixing_devices_raises",
    "B3 one card too few": "devices/test_cuda::test_no_such_gpu",
    "B4 late columns": "runs/test_faults::test_b4_columns_that_are_late_change_nothing",
    "B6 error of an earlier step": "runs/test_faults::test_t16_b6_what_a_card_says",
    "B7 TF32": "runs/test_resume::test_b7_the_card_and_its_settings_are_in_it",
    "B8 fork": "runs/test_faults::test_b8_nothing_forks",
    "B9 threads of BLAS": "prepare/test_prepare_workers::test_each_has_one_blas_thread_and_leaves_signals_to_the_caller",
    "B9 threads of BLAS in training": "devices/test_device::test_blas_gets_one_thread_a_worker",
    "B10 sums in any order": "runs/test_faults::test_b10_no_sum_in_any_order",
}
UNTESTED = {
    "T15": "The line comes from the failed allocation, with its size; a batch that fits is not proposed.",
    "T16": "CuPy's pool frees what it holds and tries again by itself; that is CuPy's to test.",
    "T22": "Superseded: the workers multiply, each with a BLAS of one thread (B9).",
    "C13": "NFS, FUSE and overlays are not at hand; a disk without locks is refused.",
    "C17": "A power cut cannot be provoked here; the order of flush, rename and flush is asserted instead.",
    "C18": "There is no background save that could fail: asserted.",
    "E5": "Averaging over ten views belongs to the measures of the net; the views themselves are in test_loader.",
    "P2": "There is no file of names: the names are in the checkpoint, whose numbers have to agree.",
    "L2": "Another NumPy would have to be installed; the package asks for one that will do.",
    "B5": "Two cards without peer access would be needed; CuPy then copies by way of the host.",
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
