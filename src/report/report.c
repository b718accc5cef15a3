/* Results on stdout, everything else on stderr.
 *
 * A progress line is drawn only on a terminal, over itself; elsewhere a plain line comes when a stage
 * ends, and at most every 10 seconds in between, so that a log stays short and still shows life.
 */
#include "report/report.h"

#include "base/child.h"
#include "base/text.h"
#include "engine/sshlogin.h"
#include "ssh/sshconf.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LOG_INTERVAL_MS 10000

const char *const report_formats[] = {"table", "json", "tx", "sshlogin", NULL};

struct report {
    bool quiet, terminal, colour;
    bool verbose;
    enum format format;
    const char *word_option;
    bool line_open; /* a progress line stands on the terminal */
    long long last;
    struct sync_progress copied; /* as last reported */
    char **dropped;              /* of each node the line that was printed last, or NULL */
    size_t dropped_count;
};

struct report *report_create(const struct report_params *params)
{
    struct report *report = calloc(1, sizeof *report);
    if (!report)
        return NULL;
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    report->quiet = params->quiet;
    report->verbose = params->verbose;
    report->format = params->format;
    report->word_option = params->word_option;
    report->terminal = isatty(2) && term && strcmp(term, "dumb");
    report->colour = isatty(1) && term && strcmp(term, "dumb") && !(no_color && *no_color);
    report->last = clock_ms();
    return report;
}

void report_destroy(struct report *report)
{
    if (!report)
        return;
    report_progress_end(report);
    for (size_t i = 0; i < report->dropped_count; i++)
        free(report->dropped[i]);
    free(report->dropped);
    free(report);
}

void report_progress_end(struct report *report)
{
    if (report->line_open)
        fputs("\r\033[K", stderr);
    report->line_open = false;
    fflush(stderr);
}

void report_note(struct report *report, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX * 2];
    va_list ap;
    if (report->quiet)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text_clean(text);
    report_progress_end(report);
    fprintf(stderr, "cloudplan: %s\n", text);
}

/* The progress line, cut to the terminal's width; elsewhere a line now and then. */
static void progress_line(struct report *report, const char *text)
{
    if (report->quiet)
        return;
    if (report->terminal) {
        struct winsize size;
        int width = !ioctl(2, TIOCGWINSZ, &size) && size.ws_col > 1 ? size.ws_col - 1 : 79;
        fprintf(stderr, "\r\033[K%.*s", width, text);
        fflush(stderr);
        report->line_open = true;
    } else if (clock_ms() - report->last >= LOG_INTERVAL_MS) {
        fprintf(stderr, "cloudplan: %s\n", text);
        report->last = clock_ms();
    }
}

void report_probe_progress(void *arg, const struct node_list *list, size_t done)
{
    char text[128];
    snprintf(text, sizeof text, "asking: %zu of %zu nodes answered or given up", done, list->count);
    progress_line(arg, text);
}

void report_copied(struct report *report)
{
    const struct sync_progress *p = &report->copied;
    char bytes[24];
    if (p->nodes_total == 0)
        return;
    text_size(p->bytes, bytes);
    report_note(report, "copied %s to %zu of %zu nodes in %lld.%lld s", bytes, p->nodes_done, p->nodes_total,
                p->elapsed_ms / 1000, p->elapsed_ms / 100 % 10);
}

void report_sync_progress(void *arg, const struct sync_progress *p)
{
    ((struct report *)arg)->copied = *p;
    char text[300], bytes[24], rate[24], total[24], left[80] = "";
    text_size(p->bytes, bytes);
    text_size(p->elapsed_ms > 0 ? p->bytes * 1000 / (uint64_t)p->elapsed_ms : 0, rate);
    if (p->bytes_total > p->bytes && p->bytes && p->elapsed_ms > 500) {
        double seconds =
            (double)(p->bytes_total - p->bytes) * (double)p->elapsed_ms / (double)p->bytes / 1000;
        unsigned whole = seconds < 1e6 ? (unsigned)seconds : 1000000;
        text_size(p->bytes_total, total);
        snprintf(left, sizeof left, " of %s, %u:%02u left", total, whole / 60, whole % 60);
    }
    char failed[40] = "";
    if (p->nodes_failed)
        snprintf(failed, sizeof failed, ", %zu failed", p->nodes_failed);
    snprintf(text, sizeof text, "copying: %zu of %zu nodes done%s; %s%s at %s/s", p->nodes_done,
             p->nodes_total, failed, bytes, left, rate);
    progress_line(arg, text);
}

/* Prints what is to be said of node i, NULL: nothing, unless it was the last that was said of it.  Without memory it is said once
 * too often, rather than never. */
static void say_of_node(struct report *report, size_t i, const char *line)
{
    char **said = i < report->dropped_count ? &report->dropped[i] : NULL;
    if (line && said && *said && !strcmp(*said, line))
        return;
    if (line)
        fprintf(stderr, "cloudplan: %s\n", line);
    if (said) {
        free(*said);
        *said = line ? strdup(line) : NULL;
    }
}

static void make_room(struct report *report, size_t count)
{
    char **grown = report->dropped_count < count ? realloc(report->dropped, count * sizeof *grown) : NULL;
    if (!grown)
        return;
    for (size_t i = report->dropped_count; i < count; i++)
        grown[i] = NULL;
    report->dropped = grown;
    report->dropped_count = count;
}

void report_dropped(struct report *report, const struct node_list *list)
{
    char text[ERROR_TEXT_MAX * 3];
    report_progress_end(report);
    make_room(report, list->count);
    for (size_t i = 0; i < list->count; i++) {
        const struct node *node = &list->nodes[i];
        bool dropped = node->state != NODE_READY, fallback = !dropped && *node->fallback && report->verbose;
        if (dropped)
            snprintf(text, sizeof text, "%s is left out (%s): %s", node_title(node),
                     node_state_name(node->state), node->reason);
        else if (fallback)
            snprintf(text, sizeof text, "%s was asked by the OpenSSH client: %s", node->name, node->fallback);
        say_of_node(report, i, dropped || fallback ? text : NULL);
    }
}

static int name_width(const struct node_list *list)
{
    int width = 4;
    for (size_t i = 0; i < list->count; i++) {
        int n = (int)strlen(list->nodes[i].name);
        width = n > width ? n : width;
    }
    return width < 40 ? width : 40;
}

/* Whose lease has decided a ready node's share; "" where none has. */
static const char *leased_by(const struct node *node)
{
    return node->limited_by == TERM_LEASE ? node->facts.lease_holder : "";
}

static void table(const struct report *report, const struct node_list *list, FILE *out)
{
    int width = name_width(list);
    bool colour = report->colour && out == stdout;
    fprintf(out, "%-*s  %-7s  %5s  %9s  %9s  %-13s  %s\n", width, "NODE", "STATE", "CORES", "MEMORY",
            "PROCESSES", "LIMITED BY", "REASON");
    for (size_t i = 0; i < list->count; i++) {
        const struct node *node = &list->nodes[i];
        char cores[16] = "-", memory[24] = "-", processes[16] = "-";
        const char *term = plan_term_name(node->limited_by);
        if (node->has_facts) {
            snprintf(cores, sizeof cores, "%u", node->facts.cores);
            text_size(node->facts.mem_available, memory);
        }
        if (term && node->state == NODE_READY)
            snprintf(processes, sizeof processes, "%u", node->processes);
        const char *on = !colour ? "" : node->state == NODE_READY ? "\033[32m" : "\033[31m";
        fprintf(out, "%-*s  %s%-7s%s  %5s  %9s  %9s  %-13s  %s\n", width, node->name, on,
                node_state_name(node->state), colour ? "\033[0m" : "", cores, memory, processes,
                term ? term : "-",
                node->state != NODE_READY ? node->reason
                : *leased_by(node)        ? leased_by(node)
                                          : "");
    }
}

static json_t *facts_json(const struct facts *f)
{
    json_t *object =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "cores",
                  (json_int_t)f->cores, "cores_online", (json_int_t)f->cores_online, "mem_total",
                  (json_int_t)f->mem_total, "mem_machine", (json_int_t)f->mem_machine, "mem_available",
                  (json_int_t)f->mem_available, "boot_id", f->boot_id, "os", f->os, "release", f->release,
                  "arch", f->arch, "home", f->home, "python", f->python, "rsync", f->rsync);
    if (!object)
        return NULL;
    json_t *pythons = json_array();
    int bad = 0;
    for (uint32_t i = 0; i < f->python_count && i < FACTS_PYTHONS_MAX; i++)
        bad |= json_array_append_new(pythons, json_string(f->pythons[i]));
    bad |= json_object_set_new(object, "pythons", pythons);
    bad |= json_object_set_new(object, "load1", f->load1 < 0 ? json_null() : json_real(f->load1));
    bad |= json_object_set_new(
        object, "disk_free", f->disk_free > INT64_MAX ? json_null() : json_integer((json_int_t)f->disk_free));
    if (bad) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

static json_t *node_json(const struct node *node)
{
    const struct sshconf *conf = node->conf;
    const char *user = node->user ? node->user : conf ? conf->user : NULL;
    unsigned port = node->port ? node->port : conf ? conf->port : 0;
    return json_pack("{s:s, s:s, s:o, s:o, s:s, s:o, s:I, s:o, s:o, s:o}", "name", node->name, "host",
                     node->host, "user", or_null(user), "port", port ? json_integer(port) : json_null(),
                     "state", node_state_name(node->state), "reason",
                     or_null(node->state == NODE_READY ? NULL : node->reason), "processes",
                     (json_int_t)(node->state == NODE_READY ? node->processes : 0), "limited_by",
                     or_null(plan_term_name(node->limited_by)), "leased_by",
                     or_null(node->has_facts && *node->facts.lease_holder ? node->facts.lease_holder : NULL),
                     "facts", node->has_facts ? facts_json(&node->facts) : json_null());
}

char *report_json(const struct node_list *list, char *const *tx)
{
    char *text = NULL;
    json_t *nodes = json_array(), *specs = json_array();
    int bad = 0;
    for (size_t i = 0; i < list->count; i++)
        bad |= json_array_append_new(nodes, node_json(&list->nodes[i]));
    for (size_t i = 0; tx && tx[i]; i++)
        bad |= json_array_append_new(specs, json_string(tx[i]));
    json_t *document = json_pack("{s:i, s:I, s:o, s:o}", "version", 1, "processes",
                                 (json_int_t)node_list_processes(list), "nodes", nodes, "tx", specs);
    if (document && !bad)
        text = json_dumps(document, JSON_INDENT(2));
    json_decref(document);
    return text;
}

int report_nodes(struct report *report, const struct node_list *list, char *const *tx, char *const *logins,
                 bool to_stderr, struct error *err)
{
    FILE *out = to_stderr ? stderr : stdout;
    report_progress_end(report);
    if (to_stderr && report->quiet)
        return 0;
    if (to_stderr || report->format == FORMAT_TABLE) {
        table(report, list, out);
    } else if (report->format == FORMAT_JSON) {
        char *text = report_json(list, tx);
        if (!text)
            return error_set(err, STATUS_SYSTEM, "no memory for the report");
        fprintf(out, "%s\n", text);
        free(text);
    } else if (report->format == FORMAT_TX) {
        for (size_t i = 0; tx && tx[i]; i++)
            fprintf(out, "%s%s\n", report->word_option ? report->word_option : "", tx[i]);
    } else if (report->format == FORMAT_SSHLOGIN) {
        for (size_t i = 0; logins && logins[i]; i++)
            fprintf(out, "%s\n", logins[i]);
        if (logins && !logins[0])
            fprintf(out, "%s\n", SSHLOGIN_NONE);
    }
    if (fflush(out) || ferror(out))
        return error_errno(err, to_stderr ? "standard error" : "standard output");
    return 0;
}
