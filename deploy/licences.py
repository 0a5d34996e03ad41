#!/usr/bin/env python3
"""The licences of everything that a program was built of, as one text: each crate with its terms, then each distinct text once.

Usage: cargo metadata --locked --format-version 1 | deploy/licences.py BILL.cdx.json

The bill of materials says which crates are in the program, cargo where their sources lie. A crate without a text of its own is named
with its terms alone.
"""

import json
import pathlib
import sys

NAMES = ("licen", "copying", "notice", "copyright", "unlicense")


def texts(folder):
    """Files with licences at the top of a crate."""
    found = (file for file in folder.iterdir() if file.is_file() and file.name.lower().startswith(NAMES))
    # Ends of lines and blanks at the end are no other licence.
    return ["\n".join(line.rstrip() for line in file.read_text(errors="replace").splitlines()).strip() for file in sorted(found)]


def main():
    bill = json.load(open(sys.argv[1], encoding="utf-8"))
    sources = {(package["name"], package["version"]): package for package in json.load(sys.stdin)["packages"]}
    # Of others: the service's own crates have no registry.
    wanted = sorted((part["name"], part["version"]) for part in bill["components"])
    packages = [sources[part] for part in wanted if sources[part]["source"]]
    print("linxo-webhook contains these libraries, each under the terms beside it. Their texts follow.\n")
    users = {}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        print(f"{name}: {package['license'] or 'see its text'}")
        for text in texts(pathlib.Path(package["manifest_path"]).parent):
            users.setdefault(text, []).append(name)
    for text, names in users.items():
        print(f"\n{'-' * 80}\n{', '.join(dict.fromkeys(names))}:\n\n{text}")


main()
