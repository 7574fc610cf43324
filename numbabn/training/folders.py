"""Folders with the files of a published data set, as the user has put them there. Nothing is ever downloaded."""

from dataclasses import dataclass
from pathlib import Path


class DataError(ValueError):
    """A file is not what its data set has: damaged, of another kind, or with impossible content."""


@dataclass(frozen=True)
class Source:
    """A published data set: what is had from where, and the sub-folders that it is unpacked to."""

    what: str
    home: str
    subfolders: tuple[str, ...]
    pickled: tuple[str, ...] = ()
    """Names that give away the version for Python."""

    def find(self, folder, *files: tuple[str, ...]) -> list[Path]:
        """The place of each file, which may have more than one spelling: all in one sub-folder, or in ``folder``.

        Parameters
        ----------
        folder : str or os.PathLike
        *files : tuple of str
            Spellings of one file's name, the likeliest first.

        Raises
        ------
        FileNotFoundError
            If the folder or a file is missing.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder; {self._hint()}")
        places = [place for name in (*self.subfolders, ".") if (place := folder / name).is_dir()]
        in_each = [[_first(place, names) for names in files] for place in places]
        found = min(in_each, key=lambda paths: paths.count(None))
        if None in found:
            missing = files[found.index(None)][0]
            looked = " nor in ".join(str(place) for place in places)
            pickled = any((place / name).exists() for place in places for name in self.pickled)
            why = " (what is there is the version for Python, pickles, which are not read)" if pickled else ""
            raise FileNotFoundError(f"{missing} is not in {looked}{why}; {self._hint()}")
        return found

    def error(self, path, problem: str) -> DataError:
        """An error to raise, which says what is wrong with a file, and where good ones are had."""
        return DataError(f"{path} {problem}; {self._hint()}")

    def _hint(self):
        return f"{self.what} can be had from {self.home}"


def _first(place, names):
    return next((place / name for name in names if (place / name).is_file()), None)
