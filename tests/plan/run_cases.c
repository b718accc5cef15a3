/* Runs the planner's cases: each directory NAME of the one given holds
 *
 *   facts.json     [{"name", "facts": {"cores", "cores_online", "mem_total", "mem_machine", "mem_available",
 *                    "boot_id", "login_id", "lease_count", "lease_cores", "lease_mem", "lease_holder"}}, ...]; from
 *                  the ids on any may be left out; or {"name", "state", "reason"} for
 *                  a node that dropped out before
 *   policy.json    {"mem_per_process", "mem_reserve", "max_processes", "min_processes", "each", "no_lease"}: bytes, numbers, true or
 *                  false; the last two may be left out
 *   expected.json  {"status": exit status or 0, "processes": in all, "nodes": [{"name", "state", "processes",
 *                    "limited_by", "reason"}, ...], "error"}; reason and error are parts of the text and may be
 *                  left out
 *
 * A new case needs no C.  A case called must-fail-* passes when its expectation is seen to be wrong, and
 * there must be one: a comparison that never differs would let everything pass.  What cannot be read, or
 * holds an unknown key, is no difference but a failure under any name. */
#include "plan/plan.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MUST_FAIL "must-fail-"

enum outcome { SAME, DIFFERENT, BROKEN };

static json_t *load(const char *dir, const char *name, const char *file, struct error *err)
{
    char path[4096];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s/%s", dir, name, file);
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        error_set(err, STATUS_DATA, "%s:%d: %s", file, error.line, error.text);
    return json;
}

static bool fits_32_bits(json_int_t n)
{
    return n >= 0 && n <= UINT32_MAX;
}

static int load_policy(struct policy *policy, json_t *json, struct error *err)
{
    json_int_t per_process, reserve, max, min, each = 0;
    int no_lease = 0;
    json_error_t error;
    if (json_unpack_ex(json, &error, JSON_STRICT, "{s:I, s:I, s:I, s:I, s?I, s?b}", "mem_per_process",
                       &per_process, "mem_reserve", &reserve, "max_processes", &max, "min_processes", &min,
                       "each", &each, "no_lease", &no_lease) < 0)
        return error_set(err, STATUS_DATA, "policy.json: %s", error.text);
    if (per_process < 0 || reserve < 0 || !fits_32_bits(max) || !fits_32_bits(min) || !fits_32_bits(each))
        return error_set(err, STATUS_DATA, "policy.json: a number out of range");
    *policy = (struct policy){.mem_per_process = (uint64_t)per_process,
                              .mem_reserve = (uint64_t)reserve,
                              .max_processes = (uint32_t)max,
                              .min_processes = (uint32_t)min,
                              .each = (uint32_t)each,
                              .no_lease = no_lease};
    return 0;
}

static int load_facts(struct facts *facts, json_t *json, struct error *err)
{
    json_int_t cores, online, total, machine, available, leases = 0, leased = 0, leased_mem = 0;
    const char *boot_id = "", *login_id = "", *holder = "";
    json_error_t error;
    if (json_unpack_ex(json, &error, JSON_STRICT, "{s:I, s:I, s:I, s:I, s:I, s?s, s?s, s?I, s?I, s?I, s?s}",
                       "cores", &cores, "cores_online", &online, "mem_total", &total, "mem_machine", &machine,
                       "mem_available", &available, "boot_id", &boot_id, "login_id", &login_id, "lease_count",
                       &leases, "lease_cores", &leased, "lease_mem", &leased_mem, "lease_holder",
                       &holder) < 0)
        return error_set(err, STATUS_DATA, "facts.json: %s", error.text);
    if (!fits_32_bits(cores) || !fits_32_bits(online) || total < 0 || machine < 0 || available < 0 ||
        !fits_32_bits(leases) || !fits_32_bits(leased) || leased_mem < 0 ||
        strlen(holder) >= sizeof facts->lease_holder)
        return error_set(err, STATUS_DATA, "facts.json: a number out of range");
    *facts = (struct facts){.cores = (uint32_t)cores,
                            .cores_online = (uint32_t)online,
                            .mem_total = (uint64_t)total,
                            .mem_machine = (uint64_t)machine,
                            .mem_available = (uint64_t)available,
                            .lease_count = (uint32_t)leases,
                            .lease_cores = (uint32_t)leased,
                            .lease_mem = (uint64_t)leased_mem};
    snprintf(facts->boot_id, sizeof facts->boot_id, "%s", boot_id);
    snprintf(facts->login_id, sizeof facts->login_id, "%s", login_id);
    snprintf(facts->lease_holder, sizeof facts->lease_holder, "%s", holder);
    return 0;
}

static int state_parse(enum node_state *state, const char *name, struct error *err)
{
    for (enum node_state s = NODE_READY; s <= NODE_FAILED; s++) {
        if (strcmp(node_state_name(s), name) == 0) {
            *state = s;
            return 0;
        }
    }
    return error_set(err, STATUS_DATA, "facts.json: unknown state '%s'", name);
}

static int load_nodes(struct node_list *list, json_t *json, struct error *err)
{
    size_t i;
    json_t *item;
    if (!json_is_array(json))
        return error_set(err, STATUS_DATA, "facts.json: not a list");
    json_array_foreach(json, i, item)
    {
        const char *name, *state_name = "ready", *reason = "";
        json_t *facts = NULL;
        json_error_t error;
        enum node_state state = NODE_PENDING;
        if (json_unpack_ex(item, &error, JSON_STRICT, "{s:s, s?o, s?s, s?s}", "name", &name, "facts", &facts,
                           "state", &state_name, "reason", &reason) < 0)
            return error_set(err, STATUS_DATA, "facts.json: %s", error.text);
        if (state_parse(&state, state_name, err) < 0 || node_list_add(list, name, err) < 0)
            return -1;
        if (list->count != i + 1)
            return error_set(err, STATUS_DATA, "facts.json: %s is not one new node", name);
        struct node *node = &list->nodes[i];
        node_set(node, state, "%s", reason);
        node->has_facts = facts != NULL;
        if (facts && load_facts(&node->facts, facts, err) < 0)
            return -1;
    }
    return 0;
}

static enum outcome compare_node(const struct node *node, json_t *json, struct error *err)
{
    const char *name, *state, *limited_by = NULL, *reason = NULL;
    json_int_t processes;
    json_t *term;
    json_error_t error;
    if (json_unpack_ex(json, &error, JSON_STRICT, "{s:s, s:s, s:I, s:o, s?s}", "name", &name, "state", &state,
                       "processes", &processes, "limited_by", &term, "reason", &reason) < 0) {
        error_set(err, STATUS_DATA, "expected.json: %s", error.text);
        return BROKEN;
    }
    limited_by = json_is_null(term) ? "null" : json_string_value(term);
    const char *got = plan_term_name(node->limited_by) ? plan_term_name(node->limited_by) : "null";
    if (!limited_by)
        error_set(err, STATUS_DATA, "expected.json: limited_by is no string");
    else if (strcmp(name, node->name) != 0)
        error_set(err, STATUS_BUG, "node %s instead of %s", node->name, name);
    else if (strcmp(state, node_state_name(node->state)) != 0)
        error_set(err, STATUS_BUG, "%s: %s instead of %s (%s)", name, node_state_name(node->state), state,
                  node->reason);
    else if (processes != (json_int_t)node->processes)
        error_set(err, STATUS_BUG, "%s: %u processes instead of %lld", name, node->processes,
                  (long long)processes);
    else if (strcmp(limited_by, got) != 0)
        error_set(err, STATUS_BUG, "%s: limited by %s instead of %s", name, got, limited_by);
    else if (reason && !strstr(node->reason, reason))
        error_set(err, STATUS_BUG, "%s: '%s' instead of '%s'", name, node->reason, reason);
    else
        return SAME;
    return limited_by ? DIFFERENT : BROKEN;
}

/* plan_error is what plan_make() said. */
static enum outcome compare(const struct node_list *list, const struct error *plan_error, json_t *json,
                            struct error *err)
{
    int status;
    json_int_t processes;
    json_t *nodes;
    const char *text = NULL;
    json_error_t error;
    if (json_unpack_ex(json, &error, JSON_STRICT, "{s:i, s:I, s:o, s?s}", "status", &status, "processes",
                       &processes, "nodes", &nodes, "error", &text) < 0) {
        error_set(err, STATUS_DATA, "expected.json: %s", error.text);
        return BROKEN;
    }
    if (json_array_size(nodes) != list->count) {
        error_set(err, STATUS_DATA, "expected.json: %zu nodes instead of %zu", json_array_size(nodes),
                  list->count);
        return BROKEN;
    }
    for (size_t i = 0; i < list->count; i++) {
        enum outcome outcome = compare_node(&list->nodes[i], json_array_get(nodes, i), err);
        if (outcome != SAME)
            return outcome;
    }
    if (status != plan_error->status)
        error_set(err, STATUS_BUG, "status %d instead of %d (%s)", plan_error->status, status,
                  plan_error->text);
    else if (processes != (json_int_t)node_list_processes(list))
        error_set(err, STATUS_BUG, "%llu processes instead of %lld",
                  (unsigned long long)node_list_processes(list), (long long)processes);
    else if (text && !strstr(plan_error->text, text))
        error_set(err, STATUS_BUG, "error '%s' instead of '%s'", plan_error->text, text);
    else
        return SAME;
    return DIFFERENT;
}

static enum outcome run(const char *dir, const char *name, struct error *err)
{
    struct node_list list = NODE_LIST_INIT;
    struct policy policy;
    struct error plan_error = ERROR_INIT;
    enum outcome outcome = BROKEN;
    json_t *facts = load(dir, name, "facts.json", err);
    json_t *limits = load(dir, name, "policy.json", err);
    json_t *expected = load(dir, name, "expected.json", err);
    if (!facts || !limits || !expected || load_nodes(&list, facts, err) < 0 ||
        load_policy(&policy, limits, err) < 0)
        goto out;
    plan_make(&list, &policy, &plan_error);
    outcome = compare(&list, &plan_error, expected, err);
out:
    node_list_clear(&list);
    json_decref(facts);
    json_decref(limits);
    json_decref(expected);
    return outcome;
}

static bool is_directory(const char *dir, const char *name)
{
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return name[0] != '.' && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int main(int argc, char **argv)
{
    struct dirent **cases;
    size_t passed = 0, failed = 0, proofs = 0;
    if (argc != 2) {
        fprintf(stderr, "usage: run_cases DIRECTORY\n");
        return 1;
    }
    int count = scandir(argv[1], &cases, NULL, alphasort);
    if (count < 0) {
        fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    for (int i = 0; i < count; free(cases[i++])) {
        const char *name = cases[i]->d_name;
        if (!is_directory(argv[1], name))
            continue;
        struct error err = ERROR_INIT;
        bool proof = strncmp(name, MUST_FAIL, strlen(MUST_FAIL)) == 0;
        enum outcome outcome = run(argv[1], name, &err);
        bool good = outcome == (proof ? DIFFERENT : SAME);
        if (good)
            printf("ok %s\n", name);
        else
            printf("not ok %s: %s\n", name, outcome == SAME ? "a wrong expectation was not seen" : err.text);
        passed += good;
        failed += !good;
        proofs += proof;
    }
    free(cases);
    if (proofs == 0) {
        printf("not ok self-check: no case is called " MUST_FAIL "*\n");
        failed++;
    }
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed > 0;
}
