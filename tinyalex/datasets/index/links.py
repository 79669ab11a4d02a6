"""Hard and symbolic links in a tar: where each of them leads, as in a folder on disk; none leads out of the archive."""

import bisect
import itertools

OUTSIDE = "a link that points outside of the archive"
_MOST_HOPS = 40  # as Linux


class Links:
    """The links of an archive. Paths are tuples of names from the archive's top."""

    def __init__(self):
        self._targets = {}  # of each link a path, which may contain "..", or None for one that begins with a slash

    def __bool__(self):
        return bool(self._targets)

    def add(self, path, member):
        """Add a member that is a link."""
        names = tuple(member.linkname.split("/"))
        if member.islnk():  # a path from the top, to a member before this one
            target = tuple(name for name in names if name not in ("", "."))
            self._targets[path] = self._targets.get(target, target)
        else:
            self._targets[path] = (*path[:-1], *names) if names[0] or len(names) == 1 else None

    def resolve(self, count):
        """Follow all links, and those in the folders that they lead to.

        Parameters
        ----------
        count : callable
            Called for every link that is found; raises an error if there are too many.

        Returns
        -------
        found : list of (tuple of str, tuple of str)
            The path of each link, which may itself go through links, and the path of what it leads to, which may not
            exist.
        refused : list of (tuple of str, str)
            Links that are not followed, and the reason.
        """
        found, refused, ordered = [], [], sorted(self._targets)
        waiting = [(path, path, _prefixes(path[:-1])) for path in ordered]
        for shown, path, above in waiting:  # grows
            count()
            target = self._real(path)
            if isinstance(target, str):
                refused.append((shown, target))
            elif target in above:
                refused.append((shown, "a link to a folder above it"))
            else:
                found.append((shown, target))
                for other in itertools.islice(ordered, bisect.bisect_right(ordered, target), None):
                    if other[: len(target)] != target:
                        break
                    inside = [*above, *_prefixes(other[:-1])[len(target) :]]
                    waiting.append(((*shown, *other[len(target) :]), other, inside))
        return found, refused

    def _real(self, path):
        """Return the path without links that a path leads to, or the reason why there is none."""
        hops, done, left = 0, (), list(path)
        while left:
            name = left.pop(0)
            if name in ("", "."):
                continue
            if name == ".." and not done:
                return OUTSIDE
            done = done[:-1] if name == ".." else (*done, name)
            if done in self._targets:
                hops += 1
                if hops > _MOST_HOPS:
                    return "a dangling link"
                if self._targets[done] is None:
                    return OUTSIDE
                left, done = [*self._targets[done], *left], ()
        return done


def _prefixes(path):
    return [path[:depth] for depth in range(len(path) + 1)]
