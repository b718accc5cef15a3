"""Builds the wheel of the plugin (PEP 517, PEP 660): pyproject.toml names it as this tree's build backend.

A package of pure Python is a zip file with five lines of metadata.  setuptools would need the package `wheel` beside it (before 70.1),
and leaves build/ and an egg-info in the tree; this needs Python's own library alone, so that a bare virtualenv without a network does.

What pyproject.toml says is taken from there, by its lines: Python knows TOML from 3.11 on.
"""
import base64
import hashlib
import io
import json
import os
import re
import tarfile
import zipfile

PACKAGE = "pytest_cloudplan"
SOURCES = os.path.join("scripts", PACKAGE)
IN_SDIST = ("pyproject.toml", "LICENSE", os.path.join("scripts", "wheel_backend.py"))
EPOCH = (1980, 1, 1, 0, 0, 0)  # of all files: the same tree makes the same wheel


def project():
    """{"version": "0.1.0", ...}: the values of [project] that are a string or a list in one line."""
    with open("pyproject.toml", encoding="utf-8") as file:
        table = re.search(r"^\[project\]\n(.*?)(?=^\[)", file.read(), re.M | re.S).group(1)
    return {name: json.loads(value) for name, value in re.findall(r'^([a-z-]+) = ("[^"]*"|\[[^\]]*\])', table, re.M)}


def base_name():
    return "%s-%s" % (PACKAGE, project()["version"])


def metadata():
    told = project()
    lines = ["Metadata-Version: 2.1", "Name: " + told["name"], "Version: " + told["version"], "Summary: " + told["description"],
             "License: MIT", "Requires-Python: " + told["requires-python"]]
    lines += ["Requires-Dist: " + word for word in told["dependencies"]]
    lines += ["Classifier: " + word for word in told["classifiers"]]
    return "\n".join(lines) + "\n"


def modules():
    return sorted(name for name in os.listdir(SOURCES) if name.endswith(".py"))


def write_wheel(directory, files):
    """files: {name in the wheel: bytes}, without its metadata.  Returns the wheel's name."""
    info = base_name() + ".dist-info/"
    files = dict(files)
    files[info + "METADATA"] = metadata().encode()
    files[info + "WHEEL"] = b"Wheel-Version: 1.0\nGenerator: cloudplan\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[info + "entry_points.txt"] = ("[pytest11]\n%s = %s\n" % (PACKAGE, PACKAGE)).encode()
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\n" % (name, digest, len(data))
    files[info + "RECORD"] = (record + info + "RECORD,,\n").encode()
    wheel = base_name() + "-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return wheel


def read(path):
    with open(path, "rb") as file:
        return file.read()


# What pip calls, in the tree's directory


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return write_wheel(wheel_directory, {"%s/%s" % (PACKAGE, name): read(os.path.join(SOURCES, name)) for name in modules()})


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return write_wheel(wheel_directory, {PACKAGE + ".pth": (os.path.abspath("scripts") + "\n").encode()})


def build_sdist(sdist_directory, config_settings=None):
    name = base_name()
    with tarfile.open(os.path.join(sdist_directory, name + ".tar.gz"), "w:gz") as archive:
        files = {path: read(path) for path in IN_SDIST}
        files.update((os.path.join(SOURCES, module), read(os.path.join(SOURCES, module))) for module in modules())
        files["PKG-INFO"] = metadata().encode()
        for path, data in files.items():
            entry = tarfile.TarInfo("%s/%s" % (name, path))
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return name + ".tar.gz"
