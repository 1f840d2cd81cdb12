"""What a file has that could not be carried over: said once for each kind of thing, never dropped silently."""

from dataclasses import dataclass, field, replace

MOST_NOTES = 100


@dataclass(frozen=True)
class Note:
    """Where something is (a line, or a pointer), what it is, how often it comes."""

    where: str
    what: str
    times: int = 1


@dataclass
class Notes:
    """One note for each kind of thing: where it came first, and how often."""

    found: dict[str, Note] = field(default_factory=dict)
    unsaid: int = 0

    def add(self, where: str, what: str) -> None:
        if what in self.found:
            self.found[what] = replace(self.found[what], times=self.found[what].times + 1)
        elif len(self.found) < MOST_NOTES:
            self.found[what] = Note(where, what)
        else:
            self.unsaid += 1

    def all(self) -> tuple[Note, ...]:
        more = [Note("", "further notes", self.unsaid)] if self.unsaid else []
        return (*self.found.values(), *more)
