"""Names of logins and nodes, and paths here, that hold more than letters: all the way to the tests."""
import re
import shlex

import pytest

from conftest import PROGRAM

ONE = {"test_a.py": """\
import getpass, os, pytest
@pytest.mark.parametrize("x", range(12))
def test_one(x): pass
"""}
LOGINS = [r"CORP\ci", "ci@corp.example", "ci$@corp"]


@pytest.fixture
def logins(site):
    """The users of a directory service, on all nodes: other names of ci."""
    passwd = site.world.directory / "etc/passwd"
    before = passwd.read_text()
    with open(passwd, "a", encoding="ascii") as file:
        file.writelines(f"{name}:x:1000:1000::/home/ci:/bin/bash\n" for name in LOGINS)
    yield [f"{name}@{node.host}" for name, node in zip(LOGINS, site.nodes)]
    passwd.write_text(before)


def test_logins_of_a_directory(site, logins):
    """Typed, they reach libssh2, the masters, rsync and the workers; in ssh_config, GNU parallel too."""
    site.write(ONE)
    result = site.run("run", "--cloud-max-processes=1", "--", "-v", nodes=logins, timeout=120)
    assert result.returncode == 0 and "12 passed" in result.stdout, result
    for node in site.nodes:
        assert f"[{node.host}_0]" in result.stdout, result

    # GNU parallel would take another user for them.
    for login in logins:
        result = site.run("plan", "--format=sshlogin", nodes=[login])
        assert result.returncode == 65 and f"{login}: the user '" in result.stderr, result
        assert result.stdout == "0/no-usable-node.invalid.\n"
    # The advice is true.
    config = "".join(f"Host alias{number}\n HostName {node.host}\n HostKeyAlias {node.host}\n User {name}\n"
                     for number, (name, node) in enumerate(zip(LOGINS, site.nodes)))
    (site.world.home / ".ssh/config").write_text(config)
    aliases = [f"alias{number}" for number in range(len(LOGINS))]
    result = site.run("plan", "--cloud-max-processes=1", "--format=sshlogin", nodes=aliases)
    assert result.returncode == 0 and result.stdout == "".join(f"1/{alias}\n" for alias in aliases), result
    result = site.world.run(["sh", "-c", 'printf %s "$1" > logins; exec parallel -N0 --plain --sshloginfile logins '
                             '"echo at \\$USER" ::: 1 2 3 </dev/null', "sh", result.stdout], cwd="/home/ci/project", timeout=60)
    assert sorted(result.stdout.splitlines()) == sorted(f"at {name}" for name in LOGINS), result
    result = site.run("run", "--cloud-max-processes=1", nodes=aliases, timeout=120)
    assert result.returncode == 0 and "12 passed" in result.stdout, result


def test_addresses(site):
    """IPv4 in IPv6, and a link's own addresses, which need the name of an interface."""
    first, second = site.nodes[:2]
    mapped = f"::ffff:{first.name}"
    names = [mapped]
    link = re.search(r"\sinet6 (fe80:\S+?)/", second.run(["ip", "-o", "-6", "addr", "show", "scope", "link"]).stdout)
    here = re.search(r"^\d+: (\S+?)(@\S+)?\s+inet6 fe80:", site.world.run(["ip", "-o", "-6", "addr", "show", "scope", "link"]).stdout, re.M)
    if link and here:
        names.append(f"{link[1]}%{here[1]}")
    lines = site.world._know([mapped], first.public_keys()) + site.world._know(names[1:], second.public_keys())
    site.write(ONE)
    result = site.run("run", "--cloud-max-processes=1", "--", "-v", nodes=names, timeout=120)
    site.world.known_hosts.write_text(site.world.known_hosts.read_text().replace("".join(lines), ""))
    assert result.returncode == 0 and "12 passed" in result.stdout, result
    for name in names:
        assert f"[{name}_0]" in result.stdout, result


def test_no_login_is_not_here(site):
    """GNU parallel runs jobs here where its list is empty, and nobody sees the status of what made the list."""
    site.write(ONE)
    (site.project / "empty").write_text("# nobody\n")
    for words in ["--cloud-node=10.0.120.99", "--cloud-nodes-from=empty", "--cloud-nodes-from=missing", "--cloud-node=a;b", "--bogus", "",
                  "--cloud-node=: --cloud-min-processes=1000", "--cloud-node=: --cloud-mem-per-process=99999999"]:
        result = site.run("plan", "--cloud-probe-timeout=1", *words.split(), "--format=sshlogin", nodes=[])
        assert result.returncode != 0 and result.stdout == "0/no-usable-node.invalid.\n", (words, result)
    plan = f"{shlex.quote(PROGRAM)} plan --format=sshlogin"
    for parallel in (f"parallel --plain --sshloginfile <({plan})", f'parallel --plain -S "$({plan})"',
                     f"{plan} | parallel --plain --sshloginfile -", f"parallel --plain -j3 --sshloginfile <({plan})"):
        result = site.world.run(["bash", "-c", f"{parallel} echo ran ::: 1 2"], cwd="/home/ci/project", timeout=60)
        assert result.returncode != 0 and "ran" not in result.stdout, (parallel, result)
    # Here, where that is asked for.
    result = site.run("plan", "--cloud-max-processes=2", "--format=sshlogin", nodes=[":"])
    assert result.returncode == 0 and result.stdout == "2/:\n", result


def test_a_job_s_directory(site):
    """As CI servers name them, with $HOME there; with a virtualenv, here and on a node at once."""
    name = "my job #1 (x) 'q' \"d\" $HOME/-projekt \u00e4"
    folder = site.world.home / name
    folder.mkdir(parents=True)
    (folder / "test_a.py").write_text("import resource, sys, pytest\n"
                                      "@pytest.mark.parametrize('x', range(12))\n"
                                      "def test_one(x, testrun_uid):\n"
                                      "    assert sys.prefix.endswith('/venv')\n"
                                      "    print('limit', resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n")
    cwd = f"/home/ci/{name}"
    made = site.world.run(["/usr/bin/python3", "-m", "venv", "--system-site-packages", "--without-pip", "venv"], cwd=cwd, timeout=60)
    assert made.returncode == 0, made
    for command in ("probe", "plan"):
        result = site.run(command, cwd=cwd, env={"HOME": cwd})
        assert result.returncode == 0, result
    argv = site.argv("run", "--cloud-max-processes=1", "--", "-v", "-rP", nodes=[":", site.nodes[0]])
    result = site.world.run(["sh", "-c", 'ulimit -Sn 777; exec "$@"', "sh", *argv], cwd=cwd, env={"HOME": cwd}, timeout=120)
    assert result.returncode == 0 and "12 passed" in result.stdout, result
    assert "[localhost_0]" in result.stdout and f"[{site.nodes[0].name}_0]" in result.stdout, result
    # The limit that was raised for cloudplan is not the tests'.
    assert "limit 777" in result.stdout, result


def test_values_of_an_ini_file(site):
    """A home in a path; a cipher, which ssh would find wrong at the node."""
    (site.world.home / "my nodes").write_text(f"{site.nodes[0].name}\n")
    (site.world.home / "lib").mkdir(exist_ok=True)
    (site.world.home / "lib/data").write_text("")
    site.write({**ONE, "pytest.ini": "[pytest]\ncloud_nodes_from = '~/my nodes'\nrsyncdirs = . ~/lib ~ci/lib\n"})
    result = site.run("sync", nodes=[])
    assert result.returncode == 0, result
    assert (site.nodes[0].home / "pytest_ci_project/lib/data").exists()
    for ini, words, status, text in [
        ("cloud_rsync_cipher = aes256-gcm", [], 65, "pytest.ini: --cloud-rsync-cipher=aes256-gcm: ssh here knows no cipher aes256-gcm; "
         "is it aes256-gcm@openssh.com?"),
        ("", ["--cloud-rsync-cipher=foo"], 64, "--cloud-rsync-cipher=foo: ssh here knows no cipher 'foo'; see ssh -Q cipher"),
        ("cloud_virtualenv_path = ~/none", [], 65, "pytest.ini: --cloud-virtualenv-path=/home/ci/none: no virtualenv"),
    ]:
        site.write({**ONE, "pytest.ini": f"[pytest]\n{ini}\n"})
        result = site.run("sync", *words, nodes=site.nodes[:1])
        assert result.returncode == status and result.stderr.startswith(f"cloudplan: {text}"), result
    result = site.run("sync", "--cloud-rsync-cipher=^aes128-ctr,aes256-ctr", nodes=site.nodes[:1])
    assert result.returncode == 65 and "/home/ci/none" in result.stderr, result
    site.write(ONE)
    result = site.run("sync", "--cloud-rsync-cipher=^aes128-ctr,aes256-ctr", "--cloud-rsync-max-processes=4294967295", nodes=site.nodes[:1],
                      timeout=60)
    assert result.returncode == 0, result
