"""Environment variables that exempt hosts from the HTTP proxy which the environment names."""

import os


def reached_directly(*hosts: str) -> dict[str, str]:
    """Return the variables with which a process reaches these hosts directly, and those that it does already.

    Some programs read ``NO_PROXY``, some ``no_proxy``, and the user may have set either. An address in brackets loses
    them: httpx, and so Prefect's client, takes what follows the first colon for a port.
    """
    named = (
        name.strip().removeprefix("[").removesuffix("]")
        for case in ("NO_PROXY", "no_proxy")
        for name in os.environ.get(case, "").split(",")
    )
    direct = ",".join(dict.fromkeys(filter(None, (*named, *hosts))))
    return {"NO_PROXY": direct, "no_proxy": direct}
