/* What a node answered, parsed as hostile input.
 *
 * scripts/node/facts.sh (the script that asks) prints, among whatever the
 * login shell's start-up files print before and after it,
 *
 *     cloudplan-facts NONCE 1
 *     key=value            (any number of lines, unknown keys are ignored)
 *     cloudplan-end NONCE
 *
 * NONCE is the caller's and makes the answer stand out from noise.  Only the
 * lines between the two count, and of those the ones that hold a "=" (stderr of a
 * start-up file may come in between).  Lines may end in CR LF.  The keys are documented
 * at the top of node/facts.sh; here they become numbers:
 *
 *  - mem_available: the least of MemAvailable and, for every cgroup from the
 *    process's own up to the root, limit - (usage - inactive_file), never below 0;
 *  - cores: the least of the affinity mask and every ancestor's CPU quota
 *    (quota/period rounded down, at least 1).
 *
 * Numbers are checked: not a number, too large (2^63 and above), or a missing
 * mandatory key (cores, mem_total, mem_available, os) makes the whole answer
 * malformed; so does a key that comes twice (quota, cgroup_mem and lease may, interpreter
 * and missing may for another interpreter), a NUL byte in the answer, and a second answer.
 */
#ifndef CLOUDPLAN_FACTS_H
#define CLOUDPLAN_FACTS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An answer longer than this is refused by the transports (bytes). */
#define FACTS_ANSWER_MAX (256 * 1024)

/* A machine with more cores than this is a mistake. */
#define FACTS_CORES_MAX 65536

/* Bytes of USER@CONTROLLER, whose a lease is, its NUL included. */
#define FACTS_HOLDER_MAX 65

/* At most so many interpreters can be asked for. */
#define FACTS_PYTHONS_MAX 8

/* --cloud-chdir on the node */
enum facts_target {
    TARGET_ABSENT,   /* does not exist, or is an empty directory: may be made */
    TARGET_OURS,     /* a directory that carries cloudplan's mark */
    TARGET_UNMARKED, /* the login's own, not empty and without a mark: --cloud-adopt may have it marked */
    TARGET_HOMELESS, /* it is relative, and HOME is not set there or no absolute path */
    TARGET_NOWHERE,  /* it is relative, and the home directory cannot be entered */
    TARGET_FOREIGN   /* anything else: never written to */
};

struct facts {
    uint32_t cores;         /* what this login may use, 1 to FACTS_CORES_MAX */
    uint32_t cores_online;  /* what the machine has; never less than the affinity mask */
    uint64_t mem_total;     /* bytes, MemTotal */
    uint64_t mem_machine;   /* bytes, MemAvailable of the machine, at most mem_total: the kernels
                                estimate it, and Darwin's terms overlap */
    uint64_t mem_available; /* bytes, what this login may use (cgroups included) */
    double load1;           /* one-minute load average, -1 where unknown */
    uint32_t lease_count;   /* leases of other runs, see scripts/node/lease.sh */
    uint32_t lease_cores;   /* what they hold in all; 0 where there is none */
    uint64_t lease_mem;     /* bytes, less what they are seen to use already: that is not available anyway */
    char lease_holder[FACTS_HOLDER_MAX]; /* USER@CONTROLLER of the first; "" where there is none */
    uint64_t disk_free;       /* bytes free where --cloud-chdir will be; UINT64_MAX where unknown */
    enum facts_target target; /* TARGET_FOREIGN where unknown */
    char boot_id[80];         /* "" where unknown; same value: same machine */
    char login_id[160];       /* "user@device:inode of home"; same boot_id and login_id: the same login */
    char os[64];              /* uname -s */
    char release[128];        /* uname -r */
    char arch[64];            /* uname -m */
    char home[512];
    char python[64];       /* version of the first python asked for, "" where missing */
    char python_path[512]; /* the first python asked for, "" where missing */
    char pythons[FACTS_PYTHONS_MAX]
                [32];      /* versions of all pythons asked for, in that order; "" where missing */
    uint32_t python_count; /* how many there are, the missing ones before the last found one included */
    /* modules that a python does not find, a blank between; "" where none is known to be */
    char missing[256];
    uint32_t missing_python; /* which python that is, from 0: the first one that misses any */
    char rsync[64];          /* version, "" where missing */
    char engine[256];        /* what the engine's own snippet has said; "" where it has none */
};

/* Parses len bytes of answer (it need not end in a NUL).  0, or -1 and *err: STATUS_DATA with a text such
 * as "answer malformed: cores is not a number: \"1e9\"", "answer malformed: no facts in it (first line:
 * This account is currently not available.)", or "no answer" where there is nothing but white space.
 * *facts is defined only on 0.  Strings are cleaned of control characters and cut to fit. */
int facts_parse(struct facts *facts, const char *answer, size_t len, const char *nonce, struct error *err);

/* "CORES MEM_MIB WHO", as the node's guard says who has taken what this run asked for: becomes the one lease in *facts, in
 * place of those from the answer.  0, or -1 and *err: STATUS_DATA, *facts being as it was. */
int facts_set_lease(struct facts *facts, const char *words, struct error *err);

#endif
