"""Tests that say nothing of bigupload on another system than Linux, with reasons. `tests/conftest.py` skips them.

A test whose own file says where it can run is not here.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

_MODES = "Windows has no permission bits"
_LINKS = "symbolic links need a privilege on Windows, and Wine makes none"
_NAMES = "the test has names that Windows does not allow"
_OPEN = "Windows neither renames nor deletes an open file"
_POSIX = "the test needs what POSIX alone has: a named pipe, another user, os.preadv"
_CHANGE_TIME = "Windows records no time of change"
_WORDS = "the test has the words or the paths of POSIX"
_SIMULATED = "the test simulates this very system"
_SOURCE = "the archive of CPython that the harness installs has no source of the standard library"
_TRUST = "Windows has a store of certificates besides files"
_EARLY = "the event loop of Windows reads nothing more after a failed write: docs/systems.md"
_LIBRARY = "the library of awscrt shows no names on Windows: it is imported"
_LEASE = "only Linux tells whether a program has a file open for writing"
_GENERATED = "a generated file is the same on every system, and the harness installs no ruff"
_APPEND = "Windows appends in two steps, so writers that are not one handle overwrite each other"
_SHELL = "the completions of bash, where there is no bash"
_HOME = "Windows has the user's directories in its registry"
_SERVED = "on Windows, `serve` has one process and finds no facts: docs/systems.md"
_KERNEL = "the test is about figures and options of Linux's kernel"

SKIPPED: dict[str, dict[str, tuple[str, ...]]] = {
    "win32": {
        _MODES: (
            "tests/manifests/test_damage.py::test_a_torn_tail_is_saved_and_cut",
            "tests/manifests/test_job_record.py::test_what_is_recorded_is_found_by_the_next_run",
            "tests/manifests/test_writing.py::test_a_directory_that_was_there_keeps_its_mode",
            "tests/manifests/test_writing.py::test_only_the_owner_may_look",
            "tests/cli/test_keys.py::test_modes_under_any_umask",
            "tests/cli/test_logs.py::test_levels",
            "tests/service/keys/test_modes.py::test_a_directory_that_was_there_keeps_its_mode",
            "tests/service/keys/test_modes.py::test_a_file_that_others_can_write_makes_nobody_an_owner",
            "tests/service/keys/test_modes.py::test_a_loose_mode_is_mended",
            "tests/service/keys/test_modes.py::test_a_secret_of_roots_may_be_read_by_its_group",
            "tests/service/keys/test_modes.py::test_modes",
            "tests/service/keys/test_reading.py::test_a_chmod_that_makes_it_readable_is_noticed",
        ),
        _LINKS: (
            "tests/batch/test_listing.py::test_a_link_that_is_named_is_followed",
            "tests/batch/test_tree.py::test_links_are_left_out_or_followed",
            "tests/batch/test_tree.py::test_loops_are_named_and_end",
            "tests/manifests/test_clean_up.py::test_a_manifest_that_vanishes_while_it_is_listed",
            "tests/manifests/test_damage.py::test_a_tail_is_not_saved_through_a_link",
            "tests/manifests/test_damage.py::test_what_is_no_regular_file",
            "tests/manifests/test_failing_disk.py::test_a_begin_does_not_write_through_a_link",
            "tests/manifests/test_job_record.py::test_a_link_in_its_place_is_refused",
            "tests/manifests/test_lock.py::test_a_place_where_no_lock_can_be",
            "tests/sources/test_file.py::test_a_link_is_followed",
            "tests/sources/test_held_file.py::test_links_are_followed_and_other_things_refused",
            "tests/sources/test_removal.py::test_symbolic_links",
            "tests/cli/test_gc.py::test_nothing_goes_beside_a_manifest_that_can_not_be_read[link]",
            "tests/cli/test_keys.py::test_a_symbolic_link",
            "tests/cli/test_manifest_elsewhere.py::test_nothing_is_aborted_while_it_can_not_be_read",
            "tests/cli/test_many_files.py::test_sizes_times_and_links",
            "tests/cli/test_receipt.py::test_a_file_that_is_uploaded_is_not_replaced",
            "tests/cli/test_sync.py::test_the_lines_of_a_sync",
            "tests/service/keys/test_modes.py::test_a_link_is_not_written_through",
            "tests/service/keys/test_modes.py::test_a_link_is_read_through",
        ),
        _NAMES: (
            "tests/batch/test_tree.py::test_names_that_no_key_can_have_are_failures",
            "tests/batch/test_tree.py::test_awkward_names_are_listed_exactly_and_as_s3_lists_them",
            "tests/batch/test_tree.py::test_names_that_are_not_utf8_are_failures",
            "tests/batch/test_listing.py::test_names_that_are_not_utf8",
            "tests/batch/test_listing.py::test_a_list_that_find_wrote_with_nul",
            "tests/cli/test_bad_input.py::test_a_missing_file",
            "tests/cli/test_many_files.py::test_a_dry_run_counts_failures_and_is_silent_with_quiet",
            "tests/cli/test_many_files.py::test_a_dry_run_escapes_control_characters",
            "tests/cli/test_many_files.py::test_a_name_that_no_key_can_have_fails_in_a_dry_run_as_in_the_upload",
            "tests/cli/test_sync.py::test_control_characters_are_escaped",
            "tests/cli/test_terminal.py::test_a_manifest_s_words",
            "tests/cli/test_terminal.py::test_a_name",
            "tests/stores/test_targets.py::test_a_media_service_gets_names_in_utf_8_only",
        ),
        _OPEN: (
            "tests/sources/test_file_changes.py::test_a_file_that_came_back",
            "tests/sources/test_file_changes.py::test_a_file_that_is_gone_is_still_read",
            "tests/sources/test_which_source.py::test_a_file_whose_path_is_another_file_now",
            "tests/sources/test_file_changes.py::test_every_change_is_noticed[rename_over-True]",
            "tests/sources/test_file_changes.py::test_rename_over_by_a_file_of_another_size",
            "tests/sources/test_growing.py::test_a_file_that_was_renamed_or_deleted_is_still_read",
            "tests/sources/test_growing.py::test_what_ends_it[replace-was replaced by another file-True]",
            "tests/sources/test_held_parts.py::test_a_part_larger_than_its_share_is_in_a_file_without_a_name",
            "tests/support/test_missing_files.py::test_what_can_t_be_looked_at_says_nothing",
            "tests/cli/test_bad_input.py::test_a_working_directory_that_was_deleted",
            "tests/cli/test_logs.py::test_a_log_file_that_is_rotated",
        ),
        _POSIX: (
            "tests/batch/test_watched_files.py::test_hidden_and_temporary_names",
            "tests/batch/test_watched_files.py::test_symbolic_links_can_not_be_followed",
            "tests/batch/test_watched_files.py::test_what_is_no_file",
            "tests/batch/test_watched_files.py::test_what_vanishes_meanwhile",
            "tests/batch/test_tree.py::test_a_directory_that_can_not_be_read",
            "tests/batch/test_tree.py::test_special_files_are_named",
            "tests/batch/test_selection_rows.py::test_links_and_special_files",
            "tests/batch/test_listing.py::test_a_program_selects_files_for_upload_many",
            "tests/sources/test_file.py::test_a_disk_that_fails_says_where",
            "tests/sources/test_file.py::test_a_fifo_is_refused_without_waiting_for_its_writer",
            "tests/sources/test_file.py::test_a_fifo_that_takes_the_files_place_just_then",
            "tests/sources/test_file.py::test_a_file_that_has_more_than_it_says",
            "tests/sources/test_file.py::test_a_socket",
            "tests/sources/test_file.py::test_close_waits_for_a_read",
            "tests/sources/test_file.py::test_short_reads_are_continued",
            "tests/sources/test_held_parts.py::test_a_full_disk_can_be_resumed",
            "tests/sources/test_held_parts.py::test_a_temporary_file_is_closed_after_the_thread_that_writes_it",
            "tests/sources/test_removal.py::test_a_directory_that_may_not_be_written_to",
            "tests/sources/test_removal.py::test_another_process_that_is_at_it_is_left_alone",
            "tests/sources/test_removal.py::test_another_users_file_in_a_directory_as_tmp",
            "tests/sources/test_removal.py::test_the_file_system_of_a_device",
            "tests/support/test_page_cache.py::test_a_file_system_that_cannot_tell_is_not_a_local_disk",
            "tests/cli/test_bad_input.py::test_a_special_file",
            "tests/cli/test_bad_input.py::test_an_unreadable_file",
            "tests/cli/test_keys.py::test_a_file_that_may_not_grow",
            "tests/cli/test_logs.py::test_a_link_is_followed_unless_it_is_another_user_s",
            "tests/cli/test_manifest_elsewhere.py::test_what_is_no_file_is_no_manifest",
            "tests/cli/test_many_files.py::test_a_dry_run_names_what_can_not_be_read",
            "tests/cli/test_many_files.py::test_special_files_do_not_fail",
            "tests/cli/test_mhl.py::test_a_named_pipe_in_place_of_a_file_is_not_waited_for",
            "tests/cli/test_move.py::test_a_device",
            "tests/cli/test_on_done.py::test_a_failure_of_it_is_none_of_the_upload",
            "tests/cli/test_on_done.py::test_a_notification",
            "tests/cli/test_receipt.py::test_a_device_is_written_and_not_replaced",
            "tests/cli/test_receipt.py::test_a_disk_that_is_full_at_the_end",
            "tests/cli/test_receipt.py::test_a_watch_needs_a_file_for_its_receipt",
            "tests/cli/test_receipt.py::test_standard_output_that_is_a_file_is_written_and_not_replaced",
            "tests/cli/test_receipt.py::test_what_is_deleted_is_in_the_receipt_before",
            "tests/cli/test_without_home.py",
            "tests/http/test_connection.py::test_head_and_body_go_together_however_much_the_kernel_takes",
            "tests/service/hooks/test_asking.py::test_a_command_that_takes_too_long_is_killed_with_its_children",
            "tests/service/hooks/test_asking.py::test_another_status_is_a_failure",
            "tests/service/hooks/test_files.py::test_the_example_passes_no_file_of_which_only_a_part_came",
            "tests/service/keys/test_reading.py::test_what_is_no_file[pipe]",
            "tests/sources/test_held_file.py::test_a_first_file_that_fails_or_is_cancelled_does_not_hold_up_the_others",
            "tests/sources/test_held_file.py::test_of_many_files_at_once_only_the_first_of_a_directory_takes_a_thread",
            "tests/stores/local_store/test_life.py::test_a_multipart_upload_works_right_after_start",
            "tests/stores/local_store/test_life.py::test_a_record_with_anothers_token_proves_nothing",
            "tests/stores/local_store/test_life.py::test_only_127_0_0_1_is_listened_on",
            "tests/stores/s3/test_access.py::test_it_is_what_boto3_finds",
            "tests/stores/s3/test_bucket.py::test_a_process_that_fails_is_one_line",
            "tests/stores/s3/test_bucket.py::test_a_process_that_hangs_is_left_behind",
            "tests/service/keys/test_writing.py::test_killed_in_the_middle_of_a_write",
            "tests/service/keys/test_writing.py::test_the_bytes_reach_the_disk_before_the_name_and_the_name_too",
            "tests/service/test_processes.py::test_a_child_ends_with_its_parent_who_hears_of_it[_WindowsSelectorEventLoop]",
        ),
        _CHANGE_TIME: (
            "tests/batch/test_tree.py::test_an_entry_has_the_files_metadata",
            "tests/batch/test_tree.py::test_limits_of_size_and_time",
            "tests/sources/test_file.py::test_the_fingerprint",
            "tests/sources/test_file_changes.py::test_what_changes_the_ctime_alone_is_no_change",
            "tests/sources/test_file_changes.py::test_what_touches_no_byte_does_not_hide_another_time",
            "tests/sources/test_removal.py::test_a_changed_file_stays",
            "tests/sources/test_removal.py::test_killed_while_it_got_its_name_back",
            "tests/sources/test_removal.py::test_what_is_written_while_it_is_aside_stays",
            "tests/sources/test_removal.py::test_what_takes_its_name_after_the_look_stays",
        ),
        _WORDS: (
            "tests/batch/test_tree.py::test_a_directory_that_is_no_directory",
            "tests/batch/test_tree.py::test_the_working_directory_needs_no_prefix",
            "tests/batch/test_tree.py::test_what_vanishes_meanwhile_is_named",
            "tests/batch/test_listing.py::test_patterns",
            "tests/batch/test_listing.py::test_a_pattern_gives_a_plain_file_the_key_that_a_shell_would",
            "tests/batch/test_listing.py::test_two_files_with_one_key_are_refused_before_anything_is_sent",
            "tests/batch/test_listing.py::test_a_list_of_files",
            "tests/batch/test_listing.py::test_elsewhere_a_backslash_is_part_of_a_name",
            "tests/batch/test_listing.py::test_a_pattern_with_a_backslash",
            "tests/manifests/test_damage.py::test_a_first_line_that_can_not_be_read",
            "tests/manifests/test_damage.py::test_a_missing_manifest",
            "tests/sources/test_file.py::test_a_file_in_the_place_of_a_directory",
            "tests/sources/test_file.py::test_close_is_idempotent_and_closes",
            "tests/sources/test_file_changes.py::test_a_descriptor_that_is_stale",
            "tests/support/test_missing_files.py::test_what_may_be_meant",
            "tests/http/test_http_errors.py::test_addresses_that_fail_in_different_ways",
            "tests/http/test_http_errors.py::test_why_a_proxy_is_not_reached",
            "tests/cli/test_bad_input.py::test_a_call_that_makes_no_sense",
            "tests/cli/test_bad_input.py::test_a_local_store_s_directory_that_is_a_file",
            "tests/cli/test_bad_input.py::test_a_manifest_that_is_no_file",
            "tests/cli/test_bad_input.py::test_a_state_directory_that_is_a_file",
            "tests/cli/test_bad_input.py::test_a_state_directory_whose_name_is_too_long",
            "tests/cli/test_bad_input.py::test_where_no_file_can_be",
            "tests/cli/test_full_output.py::test_a_dry_run_that_nobody_reads_sent_nothing",
            "tests/cli/test_full_output.py::test_a_proof_that_nobody_reads",
            "tests/cli/test_full_output.py::test_proofs_of_a_directory_that_nobody_reads",
            "tests/cli/test_jobs.py::test_an_unfinished_job_is_named_and_forgotten",
            "tests/cli/test_jobs.py::test_jobs_are_told_with_their_commands",
            "tests/cli/test_jobs.py::test_the_command_of_a_job",
            "tests/cli/test_logs.py::test_a_log_file_is_not_what_is_uploaded",
            "tests/cli/test_many_files.py::test_a_call_that_can_not_be",
            "tests/cli/test_many_files.py::test_a_dry_run_as_json",
            "tests/cli/test_many_files.py::test_a_file_that_fails_is_an_object_of_json",
            "tests/cli/test_many_files.py::test_a_list_with_windows_line_ends",
            "tests/cli/test_mhl.py::test_lists_that_are_damaged",
            "tests/cli/test_mhl.py::test_what_is_refused_before_anything_is_sent",
            "tests/cli/test_mhl.py::test_what_verify_finds",
            "tests/cli/test_progress_row.py::test_files_of_one_name_are_told_apart",
            "tests/cli/test_receipt.py::test_a_receipt_that_can_not_be_written_is_found_before_anything_is_sent",
            "tests/cli/test_receipt.py::test_of_many_files_also_those_that_were_there",
            "tests/cli/test_standard_input.py::test_it_is_told_which_uploads_need_their_bytes_again",
            "tests/cli/test_verify_many.py::test_a_single_failure_is_one_line",
            "tests/cli/test_verify_many.py::test_each_file_that_differs_is_named",
            "tests/cli/test_verify_many.py::test_the_checksum_of_one_file",
            "tests/cli/test_wording.py::test_what_the_command_line_shows",
            "tests/stores/s3/test_access.py::test_a_bundle_that_can_not_be_used_is_named",
            "tests/stores/s3/test_access.py::test_the_ca_bundle_is_what_botocore_finds",
            "tests/stores/service_client/test_settings.py::test_options_hold_no_secret",
            "tests/stores/test_targets.py::test_a_manifest_of_a_service_leads_back_to_it",
            "tests/support/test_extras.py::test_a_tree_that_is_not_installed_has_the_name",
        ),
        _SIMULATED: (
            "tests/integration/test_other_systems.py",
            "tests/support/test_output_file.py::test_a_receipt_without_a_file_is_deleted_where_no_open_file_can_be",
            "tests/support/test_output_file.py::test_where_no_open_file_can_be_renamed_or_deleted",
            "tests/manifests/test_writing.py::test_bytes_are_those_that_were_written_where_text_is_translated",
            "tests/sources/test_held_parts.py::test_files_where_the_system_has_no_positioned_reads",
            "tests/service/test_processes.py::test_what_needs_another_system_is_refused_at_the_start",
            "tests/stores/local_store/test_life.py::test_remove_leaves_no_lock_where_no_open_file_can_be_deleted",
        ),
        _SOURCE: (
            "tests/http/test_compat.py::test_a_failed_write_calls_what_the_hook_replaces",
            "tests/http/test_compat.py::test_asyncio_uses_nothing_that_is_not_locked",
        ),
        _TRUST: ("tests/http/test_trust.py::test_a_file_without_certificates_is_no_error",),
        _EARLY: ("tests/http/test_compat.py::test_a_failed_write_reads_once_more",),
        _GENERATED: ("tests/api/test_arguments.py::test_the_stub_is_what_the_program_has",),
        _LIBRARY: (
            "tests/core/test_crc_functions.py::test_hashing_does_not_import_awscrt",
            "tests/core/test_crc_functions.py::test_they_are_the_same",
        ),
        _APPEND: ("tests/cli/test_logs.py::test_lines_of_several_threads_stay_whole",),
        _SHELL: (
            "tests/cli/test_completion.py::test_a_shell_without_completions",
            "tests/cli/test_completion.py::test_show[bash]",
        ),
        _LEASE: ("tests/cli/test_move.py::test_a_file_that_grows",),
        _HOME: (
            "tests/cli/test_keys.py::test_the_default_place",
            "tests/service/keys/test_life.py::test_default_places",
            "tests/stores/s3/test_access.py::test_descriptions_of_aws_by_the_user_are_left_to_boto3",
        ),
        _KERNEL: (
            "tests/http/test_socket_tuning.py::test_a_long_path_alone_gets_what_losses_do_not_slow",
            "tests/http/test_socket_tuning.py::test_a_new_socket_is_set_up",
            "tests/http/test_socket_tuning.py::test_a_peer_that_does_not_read_holds_a_connection_back",
            "tests/http/test_socket_tuning.py::test_a_python_without_the_name_and_ipv6_have_the_same",
            "tests/http/test_socket_tuning.py::test_round_trips_in_seconds",
            "tests/http/test_socket_tuning.py::test_the_control_stays_after_a_pause",
            "tests/http/test_socket_tuning.py::test_what_the_user_says_holds",
            "tests/sources/test_held_parts.py::test_memory_for_parts_is_asked_for_in_large_pages",
        ),
        _SERVED: (
            "tests/service/facts/test_finding.py::test_a_child_that_fails_has_no_facts",
            "tests/service/facts/test_finding.py::test_a_film_and_each_orientation_of_a_picture",
            "tests/service/facts/test_finding.py::test_a_film_of_10_gb_is_read_by_its_ends",
            "tests/service/facts/test_finding.py::test_a_hang_ends_with_the_time_for_a_file",
            "tests/service/facts/test_finding.py::test_a_process_that_does_not_start",
            "tests/service/facts/test_finding.py::test_a_process_that_was_killed_is_started_again",
            "tests/service/facts/test_finding.py::test_a_store_without_ranges_shows_the_beginning",
            "tests/service/facts/test_finding.py::test_the_limits_of_a_child",
            "tests/service/facts/test_finding.py::test_the_process_has_no_secrets_and_ends_with_the_service",
            "tests/service/facts/test_finding.py::test_what_the_store_raises_is_raised",
            "tests/service/facts/test_finding.py::test_without_the_extra_a_service_says_its_name",
            "tests/service/facts/test_serving.py",
            "tests/service/imports/test_limits.py::test_fewer_imports_than_workers",
            "tests/service/test_workers.py",
        ),
    },
    "darwin": {
        _KERNEL: (
            "tests/http/test_socket_tuning.py",
            "tests/support/test_page_cache.py",
        ),
        _LEASE: ("tests/cli/test_move.py::test_a_file_that_grows",),
        _SIMULATED: ("tests/integration/test_other_systems.py",),
    },
}


def skip(items: Iterable[pytest.Item], system: str) -> None:
    """Skip those of a system, which is called as in `sys.platform`."""
    reasons = {node: reason for reason, nodes in SKIPPED.get(system, {}).items() for node in nodes}
    for item in items:
        test = item.nodeid.partition("[")[0]
        reason = reasons.get(item.nodeid) or reasons.get(test) or reasons.get(test.partition("::")[0])
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
