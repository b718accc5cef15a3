#include "nodes/inventory.h"

#include "alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define TEXT(literal) literal, sizeof(literal) - 1

static const struct {
    const char *text;
    size_t len;
    const char *error;
} refused[] = {
    {TEXT(""), "F: no node in it"},
    {TEXT("\n \t\r\n"), "F: no node in it"},
    {TEXT("# a\n#b\n"), "F: no node in it"},
    {TEXT("\xef\xbb\xbf"), "F: no node in it"},
    {TEXT("a\0b\n"), "F: not a text file: NUL at byte 2"},
    {TEXT("# comment \0\na\n"), "F: not a text file"},
    {TEXT("a\0"), "F: not a text file"},
    {TEXT("a\n\n# c\nb c/d e\n"), "F:4: c/d: unexpected '/'"},
    {TEXT("a\r\nb;\r\n"), "F:2: b;: unexpected ';'"},
    {TEXT("{2..1}"), "F:1: {2..1}: the range {2..1} runs downwards"},
    {TEXT("a{1..10000}\nb"), "F:2: b: too many nodes: 10000 at most in all"},
    {TEXT("a\rb/"), "F:1: b/: unexpected '/'"},
    {TEXT("a\n\xef\xbb\xbf"
          "b"),
     "F:2: "},
    {TEXT("{\"nodes\": []}"), "F:1: "},
    {TEXT("\x7f"
          "ELF"),
     "F:1: ?ELF: unexpected 0x7f"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(refused); i++) {
        struct node_list list = NODE_LIST_INIT;
        struct error err = ERROR_INIT;
        assert_int_equal(inventory_parse(&list, refused[i].text, refused[i].len, "F", &err), -1);
        assert_int_equal(err.status, STATUS_DATA);
        if (strncmp(err.text, refused[i].error, strlen(refused[i].error)) != 0)
            fail_msg("'%s' instead of '%s'", err.text, refused[i].error);
        node_list_clear(&list);
    }
}

static void assert_names(struct node_list *list, const char *names)
{
    char text[1024] = "";
    size_t used = 0;
    for (size_t i = 0; i < list->count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? " " : "", list->nodes[i].name);
    assert_string_equal(text, names);
    node_list_clear(list);
}

static const struct {
    const char *text;
    size_t len;
    const char *names;
} taken[] = {
    {TEXT("a"), "a"},
    {TEXT("a\n"), "a"},
    {TEXT("a b\tc\nd\n"), "a b c d"},
    {TEXT("a\r\nb\r\n"), "a b"},
    {TEXT("a\rb\r"), "a b"},
    {TEXT("\xef\xbb\xbf"
          "a\n"),
     "a"},
    {TEXT("# the lab\n\n  ci@a:22 # b\nc#d\n"), "ci@a:22 c"},
    {TEXT("10.0.0.{1..2}\n:\n[::1]:22\n"), "10.0.0.1 10.0.0.2 : [::1]:22"},
    {TEXT("a\na\n"), "a"},
    {TEXT("a # Gr\xc3\xbc\xc3\x9f"
          "e \xff\n"),
     "a"},
};

static void test_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(taken); i++) {
        struct node_list list = NODE_LIST_INIT;
        struct error err = ERROR_INIT;
        if (inventory_parse(&list, taken[i].text, taken[i].len, "F", &err) < 0)
            fail_msg("%s", err.text);
        assert_names(&list, taken[i].names);
    }
}

static void test_adds_to_the_list(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    assert_int_equal(node_list_add(&list, "a", NULL), 0);
    assert_int_equal(inventory_parse(&list, TEXT("b a\n"), "F", NULL), 0);
    assert_int_equal(list.duplicates, 1);
    assert_names(&list, "a b");
}

static void test_largest(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    char *text = malloc(INVENTORY_BYTES_MAX + 1);
    assert_non_null(text);
    memset(text, '\n', INVENTORY_BYTES_MAX + 1);
    text[INVENTORY_BYTES_MAX - 1] = 'a';
    assert_int_equal(inventory_parse(&list, text, INVENTORY_BYTES_MAX, "F", &err), 0);
    assert_names(&list, "a");
    assert_int_equal(inventory_parse(&list, text, INVENTORY_BYTES_MAX + 1, "F", &err), -1);
    assert_int_equal(err.status, STATUS_DATA);
    assert_string_equal(err.text, "F: larger than 4 MiB: not a list of nodes");
    free(text);
}

/* A file with the text; the caller unlinks it. */
static void write_file(char path[64], const char *text, size_t len)
{
    strcpy(path, "/tmp/test_inventory.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), len);
    close(fd);
}

static void test_read_file(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    char path[64], expected[128];
    write_file(path, TEXT("a\nb # c\n"));
    int result = inventory_read(&list, path, &err);
    unlink(path);
    assert_int_equal(result, 0);
    assert_names(&list, "a b");

    write_file(path, TEXT("a\n/b\n"));
    result = inventory_read(&list, path, &err);
    unlink(path);
    assert_int_equal(result, -1);
    snprintf(expected, sizeof expected, "%s:2: /b: unexpected '/'", path);
    assert_non_null(strstr(err.text, expected));
    node_list_clear(&list);
}

static void test_cannot_be_read(void **state)
{
    (void)state;
    static const struct {
        const char *path, *text;
    } bad[] = {
        {"", ": No such file or directory"},
        {"/nonexistent/nodes.txt", "/nonexistent/nodes.txt: No such file or directory"},
        {"/", "/: Is a directory"},
        {"/dev/null", "/dev/null: no node in it"},
        {"/dev/zero", "/dev/zero: larger than 4 MiB"}, /* endless */
    };
    for (size_t i = 0; i < LENGTH(bad); i++) {
        struct node_list list = NODE_LIST_INIT;
        struct error err = ERROR_INIT;
        assert_int_equal(inventory_read(&list, bad[i].path, &err), -1);
        assert_int_equal(err.status, STATUS_DATA);
        assert_int_equal(strncmp(err.text, bad[i].text, strlen(bad[i].text)), 0);
        node_list_clear(&list);
    }
}

/* Runs inventory_read(list, "-") with standard input reading len bytes of text from a pipe, which come in two
 * writes. */
static int read_stdin(struct node_list *list, const char *text, size_t len, struct error *err)
{
    int pipes[2], saved = dup(STDIN_FILENO);
    assert_true(saved >= 0);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(write(pipes[1], text, len / 2), len / 2);
    assert_int_equal(write(pipes[1], text + len / 2, len - len / 2), len - len / 2);
    close(pipes[1]);
    dup2(pipes[0], STDIN_FILENO);
    close(pipes[0]);
    int result = inventory_read(list, "-", err);
    assert_true(dup2(saved, STDIN_FILENO) == STDIN_FILENO);
    close(saved);
    return result;
}

static void test_standard_input(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(read_stdin(&list, TEXT("host1\nhost2\n"), &err), 0);
    assert_names(&list, "host1 host2");
    assert_int_equal(read_stdin(&list, TEXT("a\n\n?\n"), &err), -1);
    assert_non_null(strstr(err.text, "standard input:3: ?: unexpected '?'"));
    node_list_clear(&list);
}

static void test_without_memory(void **state)
{
    (void)state;
    char path[64];
    write_file(path, TEXT("a b\nci@c{1..20}\n"));
    for (int from_file = 0; from_file < 2; from_file++)
        for (ALLOC_EACH(n)) {
            struct node_list list = NODE_LIST_INIT;
            struct error err = ERROR_INIT;
            alloc_fail_at(n);
            int result = from_file ? inventory_read(&list, path, &err)
                                   : inventory_parse(&list, TEXT("a b\nci@c{1..20}\n"), "F", &err);
            bool failed = alloc_has_failed();
            assert_int_equal(result, failed ? -1 : 0);
            assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
            node_list_clear(&list);
        }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),          cmocka_unit_test(test_taken),
        cmocka_unit_test(test_adds_to_the_list), cmocka_unit_test(test_largest),
        cmocka_unit_test(test_read_file),        cmocka_unit_test(test_cannot_be_read),
        cmocka_unit_test(test_standard_input),   cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
