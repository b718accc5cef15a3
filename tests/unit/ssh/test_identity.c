/* Identities: texts that are no keys first, then which keys are offered in which order.  The keys are put
 * together here, so that no private key is kept anywhere. */
#include "ssh/agent.h"
#include "ssh/identity.h"

#include "alloc.h"

#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----\n"
#define END "-----END OPENSSH PRIVATE KEY-----\n"

struct bytes {
    unsigned char data[1024];
    size_t len;
};

static void put(struct bytes *b, const void *data, size_t len)
{
    assert_true(b->len + len <= sizeof b->data);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

static void put_u32(struct bytes *b, uint32_t n)
{
    put(b,
        (unsigned char[]){(unsigned char)(n >> 24), (unsigned char)(n >> 16), (unsigned char)(n >> 8),
                          (unsigned char)n},
        4);
}

static void put_string(struct bytes *b, const void *data, size_t len)
{
    put_u32(b, (uint32_t)len);
    put(b, data, len);
}

static void put_text(struct bytes *b, const char *text)
{
    put_string(b, text, strlen(text));
}

/* A public key in wire format; the number makes it this one. */
static struct bytes public_key(const char *type, unsigned char number)
{
    struct bytes b = {.len = 0};
    unsigned char filling[133];
    memset(filling, number, sizeof filling);
    put_text(&b, type);
    if (!strcmp(type, "ecdsa-sha2-nistp256")) {
        put_text(&b, "nistp256");
        put_string(&b, filling, 65);
    } else if (!strcmp(type, "ssh-rsa")) {
        put_string(&b, "\1\0\1", 3);
        put_string(&b, filling, 129);
    } else if (!strcmp(type, "sk-ssh-ed25519@openssh.com")) {
        put_string(&b, filling, 32);
        put_text(&b, "ssh:");
    } else {
        put_string(&b, filling, 32);
    }
    return b;
}

/* What goes into a private key file. */
struct spec {
    const char *type, *cipher, *kdf;
    uint32_t keys, check;
    const char *inner; /* the type in the private part */
    unsigned char number;
    size_t padding, trailing;
};

#define SPEC                                                                                                 \
    {                                                                                                        \
        .type = "ssh-ed25519", .cipher = "none", .kdf = "none", .keys = 1, .number = 1, .padding = 1         \
    }

static void base64(char *out, const struct bytes *b)
{
    EVP_EncodeBlock((unsigned char *)out, b->data, (int)b->len);
}

static char *private_text(struct spec spec, char text[2048])
{
    struct bytes all = {.len = 0}, public = public_key(spec.type, spec.number), private = {.len = 0};
    put_u32(&private, 0);
    put_u32(&private, spec.check);
    put_text(&private, spec.inner ? spec.inner : spec.type);
    while (private.len % 8 != (spec.padding == 1 ? 0 : spec.padding))
        put(&private, "", 1);
    put(&all, "openssh-key-v1", 15);
    put_text(&all, spec.cipher);
    put_text(&all, spec.kdf);
    put_text(&all, "");
    put_u32(&all, spec.keys);
    put_string(&all, public.data, public.len);
    put_string(&all, private.data, private.len);
    put(&all, "trailing", spec.trailing);
    strcpy(text, BEGIN);
    base64(text + strlen(text), &all);
    strcat(text, "\n" END);
    return text;
}

static char *public_text(const char *type, unsigned char number, char text[2048])
{
    struct bytes public = public_key(type, number);
    sprintf(text, "%s ", type);
    base64(text + strlen(text), &public);
    return strcat(text, " a comment\n");
}

/* In a block of its own of exactly len bytes, so that the sanitizer sees a step too far. */
static int parse_bytes(const char *text, size_t len, struct identity *id, const char **why)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    int result = identity_parse(copy, len, id, why);
    free(copy);
    return result;
}

static void texts_that_are_no_keys(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "-",
        "hello\n",
        "ssh-ed25519 AAAA\n",
        BEGIN,
        BEGIN END,
        BEGIN "\n" END,
        BEGIN "AAAA\n" END,
        BEGIN "A\n" END,
        BEGIN "!!!!\n" END,
        BEGIN "b3BlbnNzaC1rZXktdjEA\n" END,
        BEGIN "b3BlbnNzaC1rZXktdjEA////////////\n" END,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "PuTTY-User-Key-File-3: ssh-ed25519\n",
    };
    struct identity id;
    const char *why;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (parse_bytes(texts[i], strlen(texts[i]), &id, &why) != -1 || why || id.blob || id.type)
            fail_msg("taken for a key: %s", texts[i]);

    /* any good key, cut anywhere; without its line end it is none for OpenSSH either */
    char text[2048];
    private_text((struct spec)SPEC, text);
    for (size_t len = 0; len < strlen(text); len++)
        assert_int_equal(parse_bytes(text, len, &id, &why), -1);
    char shifted[2100];
    snprintf(shifted, sizeof shifted, "\n%s", text);
    assert_int_equal(parse_bytes(shifted, strlen(shifted), &id, &why), -1);

    struct spec bad[] = {SPEC, SPEC, SPEC, SPEC, SPEC, SPEC};
    bad[0].keys = 2;
    bad[1].check = 1;
    bad[2].inner = "ssh-rsa";
    bad[3].trailing = 1;
    bad[4].padding = 3;
    bad[5].keys = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        private_text(bad[i], text);
        if (parse_bytes(text, strlen(text), &id, &why) != -1)
            fail_msg("bad key %zu is taken", i);
    }
}

static void keys_for_openssh_alone(void **state)
{
    (void)state;
    struct spec rsa = SPEC, sk = SPEC, encrypted = SPEC, kdf = SPEC, other = SPEC;
    rsa.type = "ssh-rsa";
    sk.type = "sk-ssh-ed25519@openssh.com";
    encrypted.cipher = "aes256-ctr";
    encrypted.kdf = "bcrypt";
    encrypted.check = 77;
    kdf.kdf = "bcrypt";
    other.type = "ssh-ed25519-cert-v01@openssh.com";
    const struct {
        struct spec spec;
        const char *why, *type;
    } keys[] = {
        {rsa, "RSA", "ssh-rsa"},
        {sk, "on a security key", "sk-ssh-ed25519@openssh.com"},
        {encrypted, "encrypted", "ssh-ed25519"},
        {kdf, "encrypted", "ssh-ed25519"},
        {other, "a certificate or an unknown type of key", NULL},
    };
    struct identity id;
    const char *why;
    char text[2048];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        private_text(keys[i].spec, text);
        assert_int_equal(parse_bytes(text, strlen(text), &id, &why), 0);
        assert_string_equal(why, keys[i].why);
        assert_null(id.private_pem);
        if (keys[i].type) {
            struct bytes public = public_key(keys[i].spec.type, keys[i].spec.number);
            assert_string_equal(id.type, keys[i].type);
            assert_int_equal(id.blob_len, public.len);
            assert_memory_equal(id.blob, public.data, public.len);
        } else {
            assert_null(id.type);
            assert_null(id.blob);
        }
        identity_clear(&id);
    }
    static const char *const pem[][2] = {
        {"-----BEGIN RSA PRIVATE KEY-----\nAAAA", "RSA"},
        {"-----BEGIN DSA PRIVATE KEY-----\n", "DSA"},
        {"a comment\r\n-----BEGIN EC PRIVATE KEY-----\r\n", "in PEM format"},
        {"-----BEGIN PRIVATE KEY-----", "in PEM format"},
        {"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "encrypted"},
    };
    for (size_t i = 0; i < sizeof pem / sizeof *pem; i++) {
        assert_int_equal(parse_bytes(pem[i][0], strlen(pem[i][0]), &id, &why), 0);
        assert_string_equal(why, pem[i][1]);
        assert_null(id.blob);
    }
}

static void usable_keys(void **state)
{
    (void)state;
    static const char *const types[] = {"ssh-ed25519", "ecdsa-sha2-nistp256"};
    for (size_t i = 0; i < 2; i++) {
        struct spec spec = SPEC;
        spec.type = types[i];
        struct identity id;
        const char *why;
        char text[2048];
        private_text(spec, text);
        struct bytes public = public_key(spec.type, spec.number);
        assert_int_equal(parse_bytes(text, strlen(text), &id, &why), 1);
        assert_null(why);
        assert_null(id.name);
        assert_string_equal(id.type, types[i]);
        assert_int_equal(id.blob_len, public.len);
        assert_memory_equal(id.blob, public.data, public.len);
        assert_string_equal(id.private_pem, text);
        assert_int_equal(id.private_len, strlen(text));
        identity_clear(&id);
        assert_null(id.blob);
        for (ALLOC_EACH(n)) {
            alloc_fail_at(n);
            int result = identity_parse(text, strlen(text), &id, &why);
            assert_int_equal(result, alloc_has_failed() ? -1 : 1);
            identity_clear(&id);
        }
    }
}

/* A directory of key files, and an agent's keys. */
struct home {
    char dir[40];
    char paths[8][64];
    size_t count;
    const char *files[9];
    struct bytes blobs[8];
    struct agent_key keys[8];
    struct agent_keys agent;
};

static void enter_home(struct home *home)
{
    *home = (struct home){.dir = "/tmp/test_identity.XXXXXX"};
    home->agent.keys = home->keys;
    assert_non_null(mkdtemp(home->dir));
}

static void leave_home(struct home *home)
{
    for (size_t i = 0; i < home->count; i++)
        unlink(home->paths[i]);
    assert_int_equal(rmdir(home->dir), 0);
}

static const char *add_file(struct home *home, const char *name, const char *text)
{
    char *path = home->paths[home->count++], dir[sizeof home->dir];
    memcpy(dir, home->dir, sizeof dir); /* gcc takes the two for overlapping */
    snprintf(path, sizeof home->paths[0], "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0600), 0);
    return path;
}

static const char *add_private(struct home *home, const char *name, const char *type, unsigned char number,
                               const char *cipher)
{
    struct spec spec = SPEC;
    char text[2048];
    spec.type = type;
    spec.number = number;
    spec.cipher = spec.kdf = cipher;
    return add_file(home, name, private_text(spec, text));
}

static const char *add_public(struct home *home, const char *name, const char *type, unsigned char number)
{
    char text[2048];
    return add_file(home, name, public_text(type, number, text));
}

static void add_agent_key(struct home *home, const char *type, unsigned char number, const char *comment)
{
    size_t i = home->agent.count++;
    home->blobs[i] = public_key(type, number);
    home->keys[i] = (struct agent_key){home->blobs[i].data, home->blobs[i].len, (char *)(uintptr_t)comment};
}

/* The offered keys: each one's number, then 'a' where the agent signs, 'f' where a file does. */
static void assert_offers(const struct home *home, bool identitiesonly, const char *expected,
                          const char *skipped)
{
    struct error err = ERROR_INIT;
    struct identity_list *list =
        identity_list_make(home->files, identitiesonly, home->agent.count ? &home->agent : NULL, &err);
    assert_non_null(list);
    char got[64] = "";
    for (size_t i = 0; i < list->count; i++) {
        const struct identity *id = &list->ids[i];
        assert_non_null(id->name);
        sprintf(got + strlen(got), "%d%c ", id->blob[id->blob_len - 1], id->private_pem ? 'f' : 'a');
    }
    assert_string_equal(got, expected);
    assert_int_equal(list->skipped, skipped != NULL);
    if (skipped && !strstr(list->skipped_why, skipped))
        fail_msg("skipped: %s", list->skipped_why);
    identity_list_destroy(list);
}

static void files_that_cannot_be_used(void **state)
{
    (void)state;
    struct home home;
    enter_home(&home);
    char fifo[64], text[2048];
    const struct {
        const char *file, *skipped;
    } cases[] = {
        {"/nonexistent/key", NULL},
        {"/dev/null", NULL},
        {home.dir, NULL},
        {add_file(&home, "empty", ""), NULL},
        {add_file(&home, "garbage", "garbage\n"), "/garbage: not a key"},
        {add_private(&home, "rsa", "ssh-rsa", 1, "none"), "/rsa: RSA"},
        {add_private(&home, "encrypted", "ssh-ed25519", 1, "aes256-ctr"), "/encrypted: encrypted"},
        {add_public(&home, "public", "ssh-ed25519", 1), NULL},
        {add_file(&home, "open", private_text((struct spec)SPEC, text)), "/open: others may read it"},
    };
    assert_int_equal(chmod(cases[8].file, 0640), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        home.files[0] = cases[i].file;
        assert_offers(&home, false, "", cases[i].skipped);
    }
    snprintf(fifo, sizeof fifo, "%s/fifo", home.dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    home.files[0] = fifo;
    assert_offers(&home, false, "", NULL);
    unlink(fifo);
    if (geteuid() != 0) { /* root reads everything */
        assert_int_equal(chmod(cases[8].file, 0), 0);
        home.files[0] = cases[8].file;
        assert_offers(&home, false, "", "/open: not readable");
    }
    leave_home(&home);
}

static void order(void **state)
{
    (void)state;
    struct home home;
    enter_home(&home);
    home.files[0] = add_private(&home, "one", "ssh-ed25519", 1, "none");
    home.files[1] = add_private(&home, "two", "ssh-ed25519", 2, "none");
    home.files[2] = add_private(&home, "again", "ssh-ed25519", 1, "none");
    home.files[3] = add_private(&home, "three", "ecdsa-sha2-nistp256", 3, "none");
    assert_offers(&home, false, "1f 2f 3f ", NULL);
    assert_offers(&home, true, "1f 2f 3f ", NULL);
    add_agent_key(&home, "ssh-ed25519", 8, "eight");
    add_agent_key(&home, "ecdsa-sha2-nistp256", 3, "three");
    add_agent_key(&home, "ssh-ed25519", 1, "one");
    add_agent_key(&home, "ssh-ed25519", 8, "eight again");
    assert_offers(&home, false, "3a 1a 8a 2f ", NULL);
    assert_offers(&home, true, "3a 1a 2f ", NULL);

    struct identity_list *list = identity_list_make(home.files, false, &home.agent, NULL);
    assert_string_equal(list->ids[0].name, home.files[3]);
    assert_string_equal(list->ids[2].name, "eight");
    assert_string_equal(list->ids[2].type, "ssh-ed25519");
    identity_list_destroy(list);
    leave_home(&home);
}

static void keys_of_the_agent(void **state)
{
    (void)state;
    struct home home;
    enter_home(&home);
    add_agent_key(&home, "ssh-rsa", 7, "r\033sa");
    assert_offers(&home, false, "", "r?sa: RSA");
    assert_offers(&home, true, "", NULL);
    home.keys[0].len = 3; /* no key at all */
    assert_offers(&home, false, "", "unknown type of key");

    /* encrypted, PEM with FILE.pub, FILE.pub alone, and FILE a public key: the agent signs for all four */
    home.agent.count = 0;
    home.files[0] = add_private(&home, "encrypted", "ssh-ed25519", 1, "aes256-ctr");
    home.files[1] = add_file(&home, "pem", "-----BEGIN EC PRIVATE KEY-----\n");
    add_public(&home, "pem.pub", "ecdsa-sha2-nistp256", 2);
    add_public(&home, "alone.pub", "ssh-ed25519", 3);
    char alone[64];
    snprintf(alone, sizeof alone, "%s/alone", home.dir);
    home.files[2] = alone;
    home.files[3] = add_public(&home, "public", "ssh-ed25519", 4);
    assert_offers(&home, true, "", "/encrypted: encrypted");
    add_agent_key(&home, "ssh-ed25519", 4, "");
    add_agent_key(&home, "ssh-ed25519", 3, "");
    add_agent_key(&home, "ecdsa-sha2-nistp256", 2, "");
    assert_offers(&home, true, "4a 3a 2a ", "/encrypted: encrypted");
    add_agent_key(&home, "ssh-ed25519", 1, "");
    assert_offers(&home, true, "4a 3a 2a 1a ", NULL);

    /* a second name of the same key is no second key */
    home.files[4] = add_private(&home, "copy", "ssh-ed25519", 1, "aes256-ctr");
    assert_offers(&home, true, "4a 3a 2a 1a ", NULL);

    add_file(&home, "encrypted-cert.pub", "");
    assert_offers(&home, true, "4a 3a 2a 1a ", "/encrypted-cert.pub: a certificate");
    leave_home(&home);
}

static void public_files(void **state)
{
    (void)state;
    struct home home;
    enter_home(&home);
    char key[2048], text[4096];
    public_text("ssh-ed25519", 5, key);
    add_agent_key(&home, "ssh-ed25519", 5, "");
    snprintf(text, sizeof text, "# comment\n\nssh-ed25519 AAAA broken\n  %s", key);
    home.files[0] = add_file(&home, "comments", text);
    assert_offers(&home, true, "5a ", NULL);
    /* FILE.pub of another key: OpenSSH goes by it, and by it alone once the agent has that key */
    home.files[0] = add_private(&home, "stale", "ssh-ed25519", 6, "none");
    add_public(&home, "stale.pub", "ssh-ed25519", 5);
    assert_offers(&home, true, "5a ", NULL);
    add_agent_key(&home, "ssh-ed25519", 6, "");
    assert_offers(&home, true, "5a ", NULL);
    snprintf(text, sizeof text, "-----BEGIN CERTIFICATE-----\n%s", key);
    home.files[0] = add_file(&home, "behind", text);
    assert_offers(&home, true, "", "not a key");
    leave_home(&home);
}

static void without_memory(void **state)
{
    (void)state;
    struct home home;
    enter_home(&home);
    home.files[0] = add_private(&home, "one", "ssh-ed25519", 1, "none");
    home.files[1] = add_private(&home, "two", "ssh-ed25519", 2, "aes256-ctr");
    home.files[2] = add_public(&home, "three", "ssh-ed25519", 3);
    add_public(&home, "one.pub", "ssh-ed25519", 1);
    add_agent_key(&home, "ssh-ed25519", 3, "");
    add_agent_key(&home, "ssh-ed25519", 4, "");
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct identity_list *list = identity_list_make(home.files, false, &home.agent, &err);
        bool failed = alloc_has_failed();
        assert_int_equal(!list, failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        identity_list_destroy(list);
    }
    identity_list_destroy(NULL);
    leave_home(&home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_are_no_keys),
        cmocka_unit_test(keys_for_openssh_alone),
        cmocka_unit_test(usable_keys),
        cmocka_unit_test(files_that_cannot_be_used),
        cmocka_unit_test(order),
        cmocka_unit_test(keys_of_the_agent),
        cmocka_unit_test(public_files),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
