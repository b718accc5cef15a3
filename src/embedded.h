/* Files built into the binary, so that it also runs from its build tree (made by
 * scripts/embed.sh from the files of the same name in scripts/).  Each is NUL-terminated; len does not count it.
 */
#ifndef CLOUDPLAN_EMBEDDED_H
#define CLOUDPLAN_EMBEDDED_H

#include <stddef.h>

extern const char node_facts_sh[];
extern const size_t node_facts_sh_len;
extern const char node_guard_sh[];
extern const size_t node_guard_sh_len;
extern const char node_prepare_sh[];
extern const size_t node_prepare_sh_len;
extern const char pytest_cloudplan_py[];
extern const size_t pytest_cloudplan_py_len;
extern const char pytest_cloudplan_collect_py[];
extern const size_t pytest_cloudplan_collect_py_len;
extern const char pytest_cloudplan_completion_py[];
extern const size_t pytest_cloudplan_completion_py_len;
extern const char pytest_cloudplan_controller_py[];
extern const size_t pytest_cloudplan_controller_py_len;
extern const char pytest_cloudplan_coverage_py[];
extern const size_t pytest_cloudplan_coverage_py_len;
extern const char pytest_cloudplan_gate_py[];
extern const size_t pytest_cloudplan_gate_py_len;
extern const char pytest_cloudplan_gateways_py[];
extern const size_t pytest_cloudplan_gateways_py_len;
extern const char pytest_cloudplan_losses_py[];
extern const size_t pytest_cloudplan_losses_py_len;
extern const char pytest_cloudplan_reruns_py[];
extern const size_t pytest_cloudplan_reruns_py_len;
extern const char pytest_cloudplan_results_py[];
extern const size_t pytest_cloudplan_results_py_len;
extern const char pytest_cloudplan_scheduling_py[];
extern const size_t pytest_cloudplan_scheduling_py_len;
extern const char pytest_cloudplan_settings_py[];
extern const size_t pytest_cloudplan_settings_py_len;
extern const char pytest_cloudplan_ship_py[];
extern const size_t pytest_cloudplan_ship_py_len;
extern const char pytest_cloudplan_stderr_py[];
extern const size_t pytest_cloudplan_stderr_py_len;
extern const char pytest_cloudplan_stream_py[];
extern const size_t pytest_cloudplan_stream_py_len;
extern const char pytest_cloudplan_worker_py[];
extern const size_t pytest_cloudplan_worker_py_len;

#endif
