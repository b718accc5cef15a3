"""Gives the interpreter of a worker on a node its environment: cloudplan sends this text to the node, where the same interpreter runs it
first, with -I -S, and then starts itself anew.

The order comes by the standard input, on which execnet's own beginning follows: what the environment holds is in no command
line, no file and no log, and nothing but the order is read.  Python rather than a shell, which could not pass on a variable of every name,
nor ask the C library for a locale.  Nothing of this package is there, and of the standard library only what costs no time.

order: {"set": {name: value}, "unset": [name], "locale": {name: value} or None, "own": [name], "flags": [word]}, names and values as
bytes.  "locale" are LANG, LANGUAGE and LC_*, all or none: what is not in it is unset, but for the names in "own"; None: the node's
own stay.  The deadline (SIGALRM) is set before this text is read.
"""
import errno
import os
import sys

STATUS_TOO_LARGE = 121
LOCALE_KEPT = b"_CLOUDPLAN_LOCALE_KEPT"
LOCALE_NAMES = (b"LANG", b"LANGUAGE")


def is_locale(name):
    return name in LOCALE_NAMES or name.startswith(b"LC_")


def knows_locale():
    """Whether the C library has what the environment asks for."""
    try:
        from _locale import LC_ALL, setlocale
    except ImportError:
        return True
    try:
        setlocale(LC_ALL, "")
    except Exception:  # its own Error, which is no OSError everywhere
        return False
    return True


def set_locale(environ, wanted, own):
    before = {name: environ[name] for name in list(environ) if is_locale(name) and name not in own}
    for name in before:
        del environ[name]
    for name in wanted:
        environ[name] = wanted[name]
    if wanted and not knows_locale():
        for name in wanted:
            environ.pop(name, None)
        environ.update(before)
        environ[LOCALE_KEPT] = b"1"


def change(environ, order):
    for name in order["unset"]:
        environ.pop(name, None)
    environ.update(order["set"])
    if order["locale"] is not None:
        set_locale(environ, order["locale"], order["own"])


def run(words, environ):
    """Does not return.  Where the word that was asked for starts a container or the like, it is not known inside."""
    try:
        try:
            os.execvpe(words[0], words, environ)
        except FileNotFoundError:
            os.execve(sys.executable, [sys.executable] + words[1:], environ)
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        os._exit(STATUS_TOO_LARGE)


def main(size):
    text = b""
    while len(text) < size:
        part = os.read(0, size - len(text))
        if not part:
            os._exit(1)  # the connection is gone
        text += part
    order = eval(text)
    change(os.environb, order)
    words = sys.argv[1:]
    words[-2:-2] = order["flags"]  # before "-c", which is execnet's, like what follows it
    import _signal

    _signal.alarm(0)
    run(words, dict(os.environb))
