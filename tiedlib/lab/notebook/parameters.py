"""The controls of a figure that moves: what `explorer` makes of a grid, and `widgets` shows."""

from dataclasses import dataclass

__all__ = ["Parameter", "Value"]

Value = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """One control: its name, its kind ("number", "name" or "switch"), the values it can take and the one it starts
    with."""

    name: str
    label: str
    kind: str
    values: tuple[Value, ...]
    texts: tuple[str, ...]
    start: int

    @property
    def starting(self) -> Value:
        return self.values[self.start]
