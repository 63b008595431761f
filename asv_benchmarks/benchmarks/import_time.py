"""How long `import fastnorm` takes, alone and beyond Numba's own."""


def timeraw_import() -> str:
    return "import fastnorm"


def timeraw_import_after_numba() -> tuple[str, str]:
    return "import fastnorm", "import numba"
