/* usage: facts_parse NONCE < answer
 *
 * What src/nodes/facts.c makes of the facts script's answer, as JSON, for test_facts_script.py.  Exits with 65 and
 * the error on stderr where the answer is malformed.
 */
#include "nodes/facts.h"

#include <jansson.h>
#include <stdio.h>

static json_t *to_json(const struct facts *f)
{
    static const char *const targets[] = {
        [TARGET_ABSENT] = "absent",     [TARGET_OURS] = "ours",       [TARGET_UNMARKED] = "unmarked",
        [TARGET_HOMELESS] = "homeless", [TARGET_NOWHERE] = "nowhere", [TARGET_FOREIGN] = "foreign"};
    json_t *disk_free = f->disk_free == UINT64_MAX ? json_null() : json_integer((json_int_t)f->disk_free);
    json_t *pythons = json_array();
    for (uint32_t i = 0; i < f->python_count; i++)
        json_array_append_new(pythons, json_string(f->pythons[i]));
    return json_pack(
        "{si si sI sI sI sf so ss ss ss ss ss ss ss ss ss ss so ss si si si sI ss}", "cores", (int)f->cores,
        "cores_online", (int)f->cores_online, "mem_total", (json_int_t)f->mem_total, "mem_machine",
        (json_int_t)f->mem_machine, "mem_available", (json_int_t)f->mem_available, "load1", f->load1,
        "disk_free", disk_free, "target", targets[f->target], "boot_id", f->boot_id, "login_id", f->login_id,
        "os", f->os, "release", f->release, "arch", f->arch, "home", f->home, "python", f->python,
        "python_path", f->python_path, "rsync", f->rsync, "pythons", pythons, "missing", f->missing,
        "missing_python", (int)f->missing_python, "lease_count", (int)f->lease_count, "lease_cores",
        (int)f->lease_cores, "lease_mem", (json_int_t)f->lease_mem, "lease_holder", f->lease_holder);
}

int main(int argc, char **argv)
{
    static char answer[FACTS_ANSWER_MAX];
    if (argc != 2) {
        fputs("usage: facts_parse NONCE < answer\n", stderr);
        return STATUS_USAGE;
    }
    size_t len = fread(answer, 1, sizeof answer, stdin);
    struct facts facts;
    struct error err = ERROR_INIT;
    if (facts_parse(&facts, answer, len, argv[1], &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        return err.status;
    }
    json_t *json = to_json(&facts);
    int failed = !json || json_dumpf(json, stdout, JSON_INDENT(1)) != 0;
    json_decref(json);
    return failed ? STATUS_SYSTEM : STATUS_OK;
}
