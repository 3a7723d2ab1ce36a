"""The public address of the repository: its home is `tiedlib_address` in _config.yml, every other place follows.

`make address URL=https://github.com/owner/name` sets it, `make address URL=` takes it away, `make address` prints it.
The cell tagged `install` of every notebook is first_cell.py, beside this file, with the address in it.
Needs nothing but Python. It stands here and not in tiedlib because an installed library has no repository to write.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(
    r"https://github\.com/(?P<owner>[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*)/(?P<name>[A-Za-z0-9_-][A-Za-z0-9._-]*)"
)
HOME = re.compile(r'^(?P<before> *tiedlib_address: *")(?P<url>[^"\n]*)(?P<after>".*)$', re.MULTILINE)
LINE = re.compile(r'^ADDRESS = ".*"$', re.MULTILINE)
EXTRA = re.compile(r'^EXTRA = ".*"$', re.MULTILINE)
FIRST_CELL = Path(__file__).with_name("first_cell.py")
BLOCK = r"(?P<before>^{open} address: {name} begin[^\n]*\n)(?P<text>.*?)(?P<after>^{open} address: {name} end)"


def checked(url: str) -> str:
    """The address in its one spelling, "" for none. Raises ValueError for anything but https://github.com/owner/name."""
    short = url.strip().removesuffix("/").removesuffix(".git")
    if short and not ADDRESS.fullmatch(short):
        raise ValueError(f"URL is {url!r}; it must be https://github.com/owner/name, or empty to take the address away")
    return short


def read(root: Path = ROOT) -> str:
    """The address as _config.yml says it, "" while there is none."""
    path = root / "_config.yml"
    found = HOME.findall(path.read_text(encoding="utf-8"))
    if len(found) != 1:
        raise ValueError(f'{path} has {len(found)} lines `tiedlib_address: "..."`; it must have one')
    return checked(found[0][1])


def rewritten(url: str, root: Path = ROOT) -> dict[Path, str]:
    """The new text of every file that names the address; nothing is written. Raises ValueError for a missing place."""
    config = root / "_config.yml"
    read(root)  # raises where the line is missing
    texts = {config: HOME.sub(rf"\g<before>{url}\g<after>", config.read_text(encoding="utf-8"))}
    for path, name, open_, text in (
        (root / "README.md", "badges", "<!--", _badges(url)),
        (root / "README.md", "clone", "<!--", f"```sh\ngit clone {url}\n```\n" if url else ""),
        (root / "CITATION.cff", "code", "#", f'repository-code: "{url}"\n' if url else ""),
        (root / "pyproject.toml", "urls", "#", _urls(url)),
    ):
        texts[path] = _block(path, name, open_, text)
    for path in notebooks(root):
        texts[path] = _notebook(path, first_cell(url, path.name if path.parent.name == "homework" else ""))
    return texts


def first_cell(url: str, homework: str = "") -> str:
    """The source of the cell that makes `import tiedlib` work, with the address in it; of a homework's file, otter too."""
    source = LINE.sub(f'ADDRESS = "{url}"', FIRST_CELL.read_text(encoding="utf-8")).rstrip("\n")
    if not homework:
        return source
    return EXTRA.sub('EXTRA = "homework"', source) + f'\n\nimport otter\n\ngrader = otter.Notebook("{homework}")'


def notebooks(root: Path = ROOT) -> list[Path]:
    """The notebooks that install the library: those with a cell tagged `install`."""
    every = sorted(p for p in (root / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    return [p for p in every if install_cells(json.loads(p.read_text(encoding="utf-8")))]


def install_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells tagged `install` of a notebook that was read as JSON."""
    return [c for c in notebook["cells"] if "install" in c["metadata"].get("tags", ())]


def _notebook(path: Path, source: str) -> str:
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    stale = [cell for cell in install_cells(notebook) if "".join(cell["source"]) != source]
    for cell in stale:
        cell["source"] = source.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n" if stale else text


def _block(path: Path, name: str, open_: str, text: str) -> str:
    pattern = re.compile(BLOCK.format(open=re.escape(open_), name=name), re.MULTILINE | re.DOTALL)
    new, count = pattern.subn(lambda m: m["before"] + text + m["after"], path.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f"{path} has {count} blocks `address: {name} begin` to `end`; it must have one")
    return new


def _site(url: str) -> str:
    owner, name = url.split("/")[-2:]
    return f"https://{owner.lower()}.github.io/{name}/"


def _badges(url: str) -> str:
    if not url:
        return ""
    place = url.removeprefix("https://github.com/")
    tests = f"{url}/actions/workflows/test.yml"
    chapter = "book/tying.ipynb"
    return (
        f"[![tests]({tests}/badge.svg)]({tests})\n"
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/github/{place}/blob/main/{chapter})\n"
        "[![Open in Binder](https://mybinder.org/badge_logo.svg)]"
        f"(https://mybinder.org/v2/gh/{place}/main?urlpath=lab/tree/{chapter})\n\n"
        f"Read the book: {_site(url)}\n"
    )


def _urls(url: str) -> str:
    return f'[project.urls]\nRepository = "{url}"\nBook = "{_site(url)}"\n' if url else ""


def main(arguments: list[str]) -> int:
    """Writes the address, the one given or the one that _config.yml has, wherever it is not yet."""
    try:
        url = checked(arguments[0]) if arguments else read()
        for path, text in rewritten(url).items():
            if path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8", newline="\n")
                print(f"wrote {path.relative_to(ROOT)}")
    except (OSError, ValueError) as error:
        print(f"make address: {error}", file=sys.stderr)
        return 1
    print(url or "the address is not set")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
