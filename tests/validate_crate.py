"""Program: which REQUIRED checks of profiles a crate fails, run where roc-validator is.

Words: the folder of the crate, a file with the context of RO-Crate, the profiles. Nothing is asked
of the network.
"""

import sys
from pathlib import Path

import requests
from rocrate_validator import services
from rocrate_validator.models import Severity

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
CRATE, FILE, *PROFILES = sys.argv[1:]


def answer(session, method, url, **how):
    """Answer as the site of the context would, and no other site."""
    del session, method, how
    if url != CONTEXT:
        raise requests.ConnectionError(f"{url}: nothing but the context is served")
    found = requests.Response()
    found.status_code, found.url = 200, url
    found.headers["Content-Type"] = "application/ld+json"
    found._content = Path(FILE).read_bytes()
    return found


requests.Session.request = answer
for profile in PROFILES:
    how = {"rocrate_uri": CRATE, "profile_identifier": profile, "no_cache": True}
    settings = services.ValidationSettings(**how, requirement_severity=Severity.REQUIRED)
    result = services.validate(settings)
    assert len(result.executed_checks) > 20, "next to nothing was checked"
    for issue in result.get_issues():
        sys.stdout.write(f"{profile}: {issue.check.identifier}: {issue.message}\n")
