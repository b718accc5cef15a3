/* A node's answer in, numbers out.
 *
 * The answer is hostile: it is found by whole lines (never by a search for a substring, which an
 * echoed command line would satisfy), every key is looked up in one table that says how its value has
 * to look, and whatever does not look so condemns the whole answer.  Guessing on would be worse than no
 * answer: a wrong number here is too many processes on somebody's machine.  Nothing is allocated.
 */
#include "nodes/facts.h"

#include "base/text.h"

#include <stddef.h>
#include <string.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof *(a))

#define MIB (UINT64_C(1) << 20)

/* How much of a bad value or line is shown. */
#define EXCERPT_MAX 80

enum kind {
    KIND_CORES,  /* uint32_t, 1 to FACTS_CORES_MAX */
    KIND_BYTES,  /* uint64_t */
    KIND_LOAD,   /* double */
    KIND_TARGET, /* enum facts_target */
    KIND_TEXT,   /* char[] */
    /* any number of lines: */
    KIND_QUOTA,                /* QUOTA PERIOD */
    KIND_CGROUP,               /* LIMIT USAGE INACTIVE_FILE */
    KIND_LEASE,                /* CORES MEM_MIB WHO */
    KIND_PYTHON,               /* NUMBER VERSION, numbers from 2, none twice */
    KIND_MISSING,              /* NUMBER NAME..., numbers from 1, none twice */
    KIND_REPEATED = KIND_QUOTA /* from here on */
};

static const struct key {
    const char *name;
    enum kind kind;
    bool mandatory;
    size_t offset, size; /* in struct facts */
} keys[] = {
#define MEMBER(m) offsetof(struct facts, m), sizeof((struct facts *)0)->m
    {"cores", KIND_CORES, true, MEMBER(cores)},
    {"cores_online", KIND_CORES, false, MEMBER(cores_online)},
    {"quota", KIND_QUOTA, false, 0, 0},
    {"mem_total", KIND_BYTES, true, MEMBER(mem_total)},
    {"mem_available", KIND_BYTES, true, MEMBER(mem_machine)},
    {"cgroup_mem", KIND_CGROUP, false, 0, 0},
    {"lease", KIND_LEASE, false, 0, 0},
    {"load1", KIND_LOAD, false, MEMBER(load1)},
    {"disk_free", KIND_BYTES, false, MEMBER(disk_free)},
    {"target", KIND_TARGET, false, MEMBER(target)},
    {"boot_id", KIND_TEXT, false, MEMBER(boot_id)},
    {"login_id", KIND_TEXT, false, MEMBER(login_id)},
    {"os", KIND_TEXT, true, MEMBER(os)},
    {"release", KIND_TEXT, false, MEMBER(release)},
    {"arch", KIND_TEXT, false, MEMBER(arch)},
    {"home", KIND_TEXT, false, MEMBER(home)},
    {"python", KIND_TEXT, false, MEMBER(python)},
    {"python_path", KIND_TEXT, false, MEMBER(python_path)},
    {"interpreter", KIND_PYTHON, false, 0, 0},
    {"missing", KIND_MISSING, false, 0, 0},
    {"rsync", KIND_TEXT, false, MEMBER(rsync)},
    {"engine", KIND_TEXT, false, MEMBER(engine)},
#undef MEMBER
};

struct span {
    const char *at;
    size_t len;
};

struct parse {
    struct facts facts;
    bool seen[ARRAY_SIZE(keys)];
    uint64_t quota_cores;                /* the least of all quotas; UINT64_MAX: none */
    uint64_t cgroup_left;                /* the least room of all cgroups; UINT64_MAX: no limit */
    bool numbered[2][FACTS_PYTHONS_MAX]; /* seen, by python: its version, what it misses */
    struct error *err;
};

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* Cuts to at most size - 1 bytes, not within a UTF-8 character (four bytes at most), and cleans them. */
static void copy_clean(char *out, size_t size, struct span text)
{
    size_t n = text.len;
    if (n >= size) {
        n = size - 1;
        for (int back = 0; back < 3 && n > 0 && is_continuation(text.at[n]); back++)
            n--;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = text.at[i] ? text.at[i] : '?';
    out[n] = '\0';
    text_clean(out);
}

static int malformed_fact(struct parse *p, const char *key, const char *what, struct span value)
{
    char excerpt[EXCERPT_MAX + 1];
    copy_clean(excerpt, sizeof excerpt, value);
    return error_set(p->err, STATUS_DATA, "answer malformed: %s %s: \"%s\"", key, what, excerpt);
}

static bool equal(struct span text, const char *s)
{
    return text.len == strlen(s) && memcmp(text.at, s, text.len) == 0;
}

/* Takes the next line off *rest, without its end; false at the end of the text. */
static bool next_line(struct span *rest, struct span *line)
{
    if (rest->len == 0)
        return false;
    const char *end = memchr(rest->at, '\n', rest->len);
    size_t taken = end ? (size_t)(end - rest->at) + 1 : rest->len;
    *line = (struct span){rest->at, end ? taken - 1 : taken};
    while (line->len > 0 && line->at[line->len - 1] == '\r')
        line->len--;
    rest->at += taken;
    rest->len -= taken;
    return true;
}

/* "cloudplan-WORD NONCE[ VERSION]" */
static bool is_marker(struct span line, const char *word, const char *nonce, const char *tail)
{
    const char *const parts[] = {word, nonce, tail};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        size_t n = strlen(parts[i]);
        if (line.len < n || memcmp(line.at, parts[i], n) != 0)
            return false;
        line.at += n;
        line.len -= n;
    }
    return line.len == 0;
}

static bool is_begin(struct span line, const char *nonce)
{
    return is_marker(line, "cloudplan-facts ", nonce, " 1");
}

static bool is_end(struct span line, const char *nonce)
{
    return is_marker(line, "cloudplan-end ", nonce, "");
}

/* Decimal digits and nothing else, below 2^63: such numbers can be written as JSON integers, and the
 * sum of two does not overflow.  Says what is wrong, or NULL. */
static const char *parse_number(struct span text, uint64_t *number)
{
    const char *p = text.at, *end = text.at + text.len;
    size_t digits = 0;
    while (digits < text.len && text.at[digits] >= '0' && text.at[digits] <= '9')
        digits++;
    if (digits == 0 || digits < text.len)
        return "is not a number";
    return text_digits(&p, end, number) && *number <= INT64_MAX ? NULL : "is too large";
}

/* Exactly count numbers, one blank between. */
static const char *parse_numbers(struct span text, size_t count, uint64_t *numbers)
{
    for (size_t i = 0; i < count; i++) {
        const char *blank = memchr(text.at, ' ', text.len);
        bool last = i + 1 == count;
        if (!last && !blank)
            return "has too few numbers";
        struct span word = {text.at, last ? text.len : (size_t)(blank - text.at)};
        const char *wrong = parse_number(word, &numbers[i]);
        if (wrong)
            return wrong;
        if (!last) {
            text.at += word.len + 1;
            text.len -= word.len + 1;
        }
    }
    return NULL;
}

/* DIGITS[.DIGITS].  Not strtod(): it obeys the locale and knows "inf", "nan" and hexadecimal. */
static const char *parse_load(struct span text, double *load)
{
    const char *dot = memchr(text.at, '.', text.len);
    size_t whole_len = dot ? (size_t)(dot - text.at) : text.len;
    uint64_t whole, fraction = 0;
    double scale = 1;
    const char *wrong = parse_number((struct span){text.at, whole_len}, &whole);
    if (!wrong && dot) {
        struct span digits = {dot + 1, text.len - whole_len - 1};
        wrong = parse_number(digits, &fraction);
        for (size_t i = 0; !wrong && i < digits.len; i++)
            scale *= 10;
    }
    if (!wrong)
        *load = (double)whole + (double)fraction / scale;
    return wrong;
}

static const char *parse_target(struct span text, enum facts_target *target)
{
    static const char *const names[] = {
        [TARGET_ABSENT] = "absent",     [TARGET_OURS] = "ours",       [TARGET_UNMARKED] = "unmarked",
        [TARGET_HOMELESS] = "homeless", [TARGET_NOWHERE] = "nowhere", [TARGET_FOREIGN] = "foreign"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (equal(text, names[i])) {
            *target = (enum facts_target)i;
            return NULL;
        }
    return "is none of absent, ours, unmarked, homeless, nowhere, foreign";
}

static const char *parse_cores(struct span text, uint32_t *cores)
{
    uint64_t n;
    const char *wrong = parse_number(text, &n);
    if (wrong)
        return wrong;
    if (n < 1 || n > FACTS_CORES_MAX)
        return "is out of range";
    *cores = (uint32_t)n;
    return NULL;
}

static const char *parse_quota(struct span text, uint64_t *cores)
{
    uint64_t n[2]; /* quota, period */
    const char *wrong = parse_numbers(text, 2, n);
    if (wrong)
        return wrong;
    if (n[1] == 0)
        return "has a period of 0";
    uint64_t whole = n[0] / n[1] > 1 ? n[0] / n[1] : 1;
    if (whole < *cores)
        *cores = whole;
    return NULL;
}

static const char *parse_cgroup(struct span text, uint64_t *left)
{
    uint64_t n[3]; /* limit, usage, inactive_file: read one after the other, so they need not fit together */
    const char *wrong = parse_numbers(text, 3, n);
    if (wrong)
        return wrong;
    uint64_t used = n[1] > n[2] ? n[1] - n[2] : 0;
    uint64_t room = n[0] > used ? n[0] - used : 0;
    if (room < *left)
        *left = room;
    return NULL;
}

/* Takes the text up to the next blank off *rest; false where there is no blank. */
static bool next_word(struct span *rest, struct span *word)
{
    const char *blank = memchr(rest->at, ' ', rest->len);
    if (!blank)
        return false;
    *word = (struct span){rest->at, (size_t)(blank - rest->at)};
    rest->at += word->len + 1;
    rest->len -= word->len + 1;
    return true;
}

/* What USER@CONTROLLER is made of. */
static bool is_holder(struct span text)
{
    static const char chars[] = TEXT_ALNUM "._@:-";
    for (size_t i = 0; i < text.len; i++)
        if (!memchr(chars, text.at[i], sizeof chars - 1))
            return false;
    return text.len > 0 && text.len < FACTS_HOLDER_MAX;
}

static const char *parse_lease(struct facts *f, struct span text)
{
    struct span words[2];
    uint64_t cores, mib;
    if (!next_word(&text, &words[0]) || !next_word(&text, &words[1]))
        return "has too few words";
    const char *wrong = parse_number(words[0], &cores);
    if (!wrong)
        wrong = parse_number(words[1], &mib);
    if (wrong)
        return wrong;
    if (cores < 1 || cores > FACTS_CORES_MAX)
        return "is out of range";
    if (cores > UINT32_MAX - f->lease_cores || mib > ((uint64_t)INT64_MAX - f->lease_mem) / MIB)
        return "is too large";
    if (!is_holder(text))
        return "does not say whose it is";
    f->lease_cores += (uint32_t)cores;
    f->lease_mem += mib * MIB;
    if (f->lease_count++ == 0)
        copy_clean(f->lease_holder, sizeof f->lease_holder, text);
    return NULL;
}

/* "NUMBER TEXT" of one of the pythons: its position and, in *text, the rest. */
static const char *parse_numbered(struct span text, uint64_t least, bool *seen, size_t *position,
                                  struct span *rest)
{
    const char *blank = memchr(text.at, ' ', text.len);
    size_t len = blank ? (size_t)(blank - text.at) : text.len;
    uint64_t number;
    const char *wrong = parse_number((struct span){text.at, len}, &number);
    if (wrong)
        return wrong;
    if (number < least || number > FACTS_PYTHONS_MAX)
        return "is out of range";
    if (!blank || len + 1 == text.len)
        return "says nothing";
    *position = (size_t)number - 1;
    if (seen[*position])
        return "comes twice";
    seen[*position] = true;
    *rest = (struct span){blank + 1, text.len - len - 1};
    return NULL;
}

static const char *parse_python(struct parse *p, struct span text)
{
    size_t i;
    struct span version;
    const char *wrong = parse_numbered(text, 2, p->numbered[0], &i, &version);
    if (!wrong)
        copy_clean(p->facts.pythons[i], sizeof p->facts.pythons[i], version);
    return wrong;
}

static const char *parse_missing(struct parse *p, struct span text)
{
    struct facts *f = &p->facts;
    size_t i;
    struct span names;
    const char *wrong = parse_numbered(text, 1, p->numbered[1], &i, &names);
    if (!wrong && (!f->missing[0] || i < f->missing_python)) {
        copy_clean(f->missing, sizeof f->missing, names);
        f->missing_python = (uint32_t)i;
    }
    return wrong;
}

static int parse_fact(struct parse *p, struct span line)
{
    const char *sign = memchr(line.at, '=', line.len);
    if (!sign)
        return 0;
    struct span name = {line.at, (size_t)(sign - line.at)};
    struct span value = {sign + 1, line.len - name.len - 1};
    size_t i = 0;
    while (i < ARRAY_SIZE(keys) && !equal(name, keys[i].name))
        i++;
    if (i == ARRAY_SIZE(keys))
        return 0;

    const struct key *key = &keys[i];
    void *member = (char *)&p->facts + key->offset;
    const char *wrong = NULL;
    if (p->seen[i] && key->kind < KIND_REPEATED)
        return malformed_fact(p, key->name, "comes twice", value);
    p->seen[i] = true;
    switch (key->kind) {
    case KIND_CORES:
        wrong = parse_cores(value, member);
        break;
    case KIND_BYTES:
        wrong = parse_number(value, member);
        break;
    case KIND_LOAD:
        wrong = parse_load(value, member);
        break;
    case KIND_TARGET:
        wrong = parse_target(value, member);
        break;
    case KIND_TEXT:
        copy_clean(member, key->size, value);
        if (key->mandatory && value.len == 0)
            wrong = "is empty";
        break;
    case KIND_QUOTA:
        wrong = parse_quota(value, &p->quota_cores);
        break;
    case KIND_CGROUP:
        wrong = parse_cgroup(value, &p->cgroup_left);
        break;
    case KIND_LEASE:
        wrong = parse_lease(&p->facts, value);
        break;
    case KIND_PYTHON:
        wrong = parse_python(p, value);
        break;
    case KIND_MISSING:
        wrong = parse_missing(p, value);
        break;
    }
    return wrong ? malformed_fact(p, key->name, wrong, value) : 0;
}

/* What came instead of facts: a forced command's or nologin's words. */
static int no_facts(struct span text, struct error *err)
{
    struct span line = {text.at, 0};
    while (next_line(&text, &line)) {
        while (line.len > 0 && (*line.at == ' ' || *line.at == '\t')) {
            line.at++;
            line.len--;
        }
        if (line.len > 0)
            break;
    }
    if (line.len == 0)
        return error_set(err, STATUS_DATA, "no answer");
    char excerpt[EXCERPT_MAX + 1];
    copy_clean(excerpt, sizeof excerpt, line);
    return error_set(err, STATUS_DATA, "answer malformed: no facts in it (first line: %s)", excerpt);
}

/* What the lines between the markers say, put together. */
static int conclude(struct parse *p)
{
    struct facts *f = &p->facts;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (keys[i].mandatory && !p->seen[i])
            return error_set(p->err, STATUS_DATA, "answer malformed: %s is missing (os: %s)", keys[i].name,
                             f->os[0] ? f->os : "unknown");
    if (f->mem_total == 0)
        return error_set(p->err, STATUS_DATA, "answer malformed: mem_total is 0");
    if (f->mem_machine > f->mem_total)
        f->mem_machine = f->mem_total;
    f->mem_available = p->cgroup_left < f->mem_machine ? p->cgroup_left : f->mem_machine;
    if (f->cores_online < f->cores)
        f->cores_online = f->cores;
    if (p->quota_cores < f->cores)
        f->cores = (uint32_t)p->quota_cores;
    copy_clean(f->pythons[0], sizeof f->pythons[0], (struct span){f->python, strlen(f->python)});
    for (uint32_t i = 0; i < FACTS_PYTHONS_MAX; i++)
        if (f->pythons[i][0])
            f->python_count = i + 1;
    return 0;
}

int facts_parse(struct facts *facts, const char *answer, size_t len, const char *nonce, struct error *err)
{
    struct parse p = {.facts = {.load1 = -1, .disk_free = UINT64_MAX, .target = TARGET_FOREIGN},
                      .quota_cores = UINT64_MAX,
                      .cgroup_left = UINT64_MAX,
                      .err = err};
    struct span rest = {answer, len}, line;
    bool begun = false, ended = false;
    while (next_line(&rest, &line)) {
        if (is_begin(line, nonce)) {
            if (begun)
                return error_set(err, STATUS_DATA, "answer malformed: it begins twice");
            begun = true;
        } else if (begun && !ended) {
            if (memchr(line.at, '\0', line.len))
                return error_set(err, STATUS_DATA, "answer malformed: a NUL byte in it");
            ended = is_end(line, nonce);
            if (!ended && parse_fact(&p, line) != 0)
                return -1;
        }
    }
    if (!begun)
        return no_facts((struct span){answer, len}, err);
    if (!ended)
        return error_set(err, STATUS_DATA, "answer malformed: it is cut short");
    if (conclude(&p) != 0)
        return -1;
    *facts = p.facts;
    return 0;
}

int facts_set_lease(struct facts *facts, const char *words, struct error *err)
{
    struct parse p = {.err = err};
    struct span text = {words, strlen(words)};
    const char *wrong = parse_lease(&p.facts, text);
    if (wrong)
        return malformed_fact(&p, "lease", wrong, text);
    facts->lease_count = p.facts.lease_count;
    facts->lease_cores = p.facts.lease_cores;
    facts->lease_mem = p.facts.lease_mem;
    memcpy(facts->lease_holder, p.facts.lease_holder, sizeof facts->lease_holder);
    return 0;
}
