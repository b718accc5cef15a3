/* What ssh says, as OpenSSH 8.x to 9.x print it; and what a hostile peer might have it print. */
#include "ssh/ssherr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BOX "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"
#define CHANGED                                                                                              \
    "host key changed: it is not the one in known_hosts; if the node was set up anew: ssh-keygen -R"
#define UNKNOWN "host key unknown: it is not in known_hosts; ssh to the node once, or use ssh-keyscan"
#define REVOKED "host key revoked: known_hosts marks it @revoked"

static const struct {
    const char *text;
    enum node_state state;
    const char *reason;
} table[] = {
    /* nothing of use */
    {"", NODE_FAILED, "ssh ended without a word"},
    {"\n", NODE_FAILED, "ssh ended without a word"},
    {"\r\n \r\n", NODE_FAILED, "ssh ended without a word"},
    {"   ", NODE_FAILED, "ssh ended without a word"},
    {"ssh: ", NODE_FAILED, "ssh:"},
    {"ssh: \n\n", NODE_FAILED, "ssh:"},
    {"\n\nsome words  \r\n\r\n  \n", NODE_FAILED, "some words"},
    {"/home/ci/.ssh/config: line 3: Bad configuration option: foo\r\n"
     "/home/ci/.ssh/config: terminating, 1 bad configuration options\r\n",
     NODE_FAILED, "/home/ci/.ssh/config: terminating, 1 bad configuration options"},
    {"Bad owner or permissions on /home/ci/.ssh/config\r\n", NODE_FAILED,
     "Bad owner or permissions on /home/ci/.ssh/config"},
    {"client_loop: send disconnect: Broken pipe\r\n", NODE_OFFLINE,
     "client_loop: send disconnect: Broken pipe"},
    /* host keys */
    {BOX "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n" BOX
         "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r\n"
         "Host key for 10.0.0.1 has changed and you have requested strict checking.\r\nHost key verification "
         "failed.\r\n",
     NODE_REFUSED, CHANGED},
    {"No ED25519 host key is known for 10.0.0.1 and you have requested strict checking.\r\n"
     "Host key verification failed.\r\n",
     NODE_REFUSED, UNKNOWN},
    {"Host key verification failed.\r\n", NODE_REFUSED, UNKNOWN},
    {BOX "@       WARNING: REVOKED HOST KEY DETECTED!               @\r\n" BOX
         "The ED25519 host key for 10.0.0.1 is marked as revoked.\r\nHost key verification failed.\r\n",
     NODE_REFUSED, REVOKED},
    /* authentication */
    {"ci@10.0.0.1: Permission denied (publickey).\r\n", NODE_REFUSED,
     "ci@10.0.0.1: Permission denied (publickey)."},
    {"Warning: Permanently added '10.0.0.1' (ED25519) to the list of known hosts.\r\n"
     "Authorized users only.\r\nci@10.0.0.1: Permission denied (publickey,password).\r\n",
     NODE_REFUSED, "ci@10.0.0.1: Permission denied (publickey,password)."},
    {"Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\r\n"
     "Disconnected from 10.0.0.1 port 22\r\n",
     NODE_REFUSED, "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures"},
    {"Unable to negotiate with 10.0.0.1 port 22: no matching cipher found. Their offer: aes128-cbc\r\n",
     NODE_REFUSED,
     "Unable to negotiate with 10.0.0.1 port 22: no matching cipher found. Their offer: aes128-cbc"},
    /* not reached */
    {"ssh: Could not resolve hostname nowhere: Name or service not known\r\n", NODE_OFFLINE,
     "Could not resolve hostname nowhere: Name or service not known"},
    {"ssh: Could not resolve hostname nowhere: Temporary failure in name resolution\r\n", NODE_OFFLINE,
     "Could not resolve hostname nowhere: Temporary failure in name resolution"},
    {"ssh: connect to host 10.0.0.1 port 22: Connection refused\r\n", NODE_OFFLINE,
     "connect to host 10.0.0.1 port 22: Connection refused"},
    {"ssh: connect to host 10.0.0.1 port 22: Connection timed out\r\n", NODE_OFFLINE,
     "connect to host 10.0.0.1 port 22: Connection timed out"},
    {"ssh: connect to host 10.0.0.1 port 22: No route to host\r\n", NODE_OFFLINE,
     "connect to host 10.0.0.1 port 22: No route to host"},
    {"ssh: connect to host 10.0.0.1 port 22: Network is unreachable\r\n", NODE_OFFLINE,
     "connect to host 10.0.0.1 port 22: Network is unreachable"},
    {"Timeout, server 10.0.0.1 not responding.\r\n", NODE_OFFLINE,
     "Timeout, server 10.0.0.1 not responding."},
    {"Connection timed out during banner exchange\r\nConnection to 10.0.0.1 port 22 timed out\r\n",
     NODE_OFFLINE, "Connection timed out during banner exchange"},
    {"kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 10.0.0.1 port "
     "22\r\n",
     NODE_OFFLINE, "kex_exchange_identification: Connection closed by remote host"},
    {"kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 10.0.0.1 port "
     "22\r\n",
     NODE_OFFLINE, "kex_exchange_identification: read: Connection reset by peer"},
    {"Connection closed by UNKNOWN port 65535\r\n", NODE_OFFLINE, "Connection closed by UNKNOWN port 65535"},
    {"Connection reset by 10.0.0.1 port 22", NODE_OFFLINE, "Connection reset by 10.0.0.1 port 22"},
    /* hostile */
    {"\033[2J\033]0;title\007Permission denied\x9b\x31m\n", NODE_REFUSED,
     "?[2J?]0;title?Permission denied?1m"},
    {"\xff\xfe\xc2\x80 words", NODE_FAILED, "???? words"},
    {"%s%n%s%n", NODE_FAILED, "%s%n%s%n"},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char reason[ERROR_TEXT_MAX];
        char *copy = strdup(table[i].text); /* a block of its own: the sanitizer sees a step too far */
        memset(reason, 'x', sizeof reason);
        enum node_state got = ssh_failure(copy, reason);
        assert_string_equal(reason, table[i].reason);
        assert_int_equal(got, table[i].state);
        free(copy);
    }
}

static void test_long(void **state)
{
    (void)state;
    static const char *const ends[] = {"", "\n", " Connection refused\n"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char reason[ERROR_TEXT_MAX];
        size_t len = 100000;
        char *text = malloc(len + 100);
        memset(text, 'x', len);
        strcpy(text + len, ends[i]);
        assert_int_equal(ssh_failure(text, reason), *ends[i] == ' ' ? NODE_OFFLINE : NODE_FAILED);
        assert_true(strlen(reason) >= 100 && strlen(reason) < sizeof reason);
        assert_int_equal(strspn(reason, "x"), strlen(reason));
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
