"""Settings that hold a secret, by what their names say and by what their values look like, on any cloud."""

from __future__ import annotations

import re

# The last words of a name, which say what the value is. Words are split at dots, dashes and capitals.
_SECRET_NAMES = re.compile(
    r"(^| )("
    r"\w*passwords?|passwd|pass|clearpass|pwd|pass ?phrase|secrets?|apikey|secretkey|pat|bearer|"
    r"redis auth|tokens?|credentials?|jaas|"
    r"(access|account|secret|private|shared|encryption|auth|api|storage|customer|sse|signing|master|client|application|"
    r"provided) "
    r"(id )?keys?|"
    r"key (id|secret|password)|keyid|sas|pem"
    r")( (id|value|data|string|base64|plain|content|contents))*$"
)
# Azure names the account or the container behind what it is: fs.azure.account.key.ACCOUNT.dfs.core.windows.net
_SECRET_PREFIXES = re.compile(
    r"fs\.azure\.(account\.key|account\.oauth2\.client\.secret|account\.oauth2\.refresh\.token|sas(\.fixed\.token)?)(\.|$)"
    r"|fs\.azure\.account\.oauth2\.(user\.password|client\.secret)"
    r"|fs\.s3a\.bucket\..*\.(access|secret)\.key|fs\.(s3a?|s3n)\.aws(access|secret)",
    re.IGNORECASE,
)
# Names with such a word that are not the secret itself: where it is, how long it holds, who provides it.
_NOT_THE_SECRET = re.compile(
    r"(^| )(provider|class|enabled|disabled|file|path|location|dir|directory|lifetime|interval|timeout|ttl|max|min|"
    r"size|type|algorithm|length|renewal|ratio|store|store type|service|issuer|endpoint|url|uri|server|factory|mapping|"
    r"impl|protocol|required|mechanism|regex|pattern|secret name|name)$|secret key ref "
)
# Names of which there may be so many, and those of a mapping that has a secret's place for each.
_COUNTED = re.compile(r"(^| )(tokens|passes|credentials)$")
_NAMES_OF_MANY = ("secrets", "credentials", "tokens", "pass", "pat")
_SECRET_VALUES = re.compile(
    r"\b(AKIA|ASIA|AGPA|AROA)[A-Z0-9]{16}\b"  # AWS's key ids
    r"|-----BEGIN [A-Z ]*(PRIVATE KEY|CERTIFICATE)"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_|\bxox[abps]-|\bya29\.|\bAIza[A-Za-z0-9_-]{30,}|\bdapi[0-9a-f]{32}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\."  # a JSON web token
    r"|\bpassword\s*=\s*\"|\"private_key\"|\bsk-[A-Za-z0-9_-]{16,}"
    r"|[?&;](password|pwd|passwd|token|secret|sig|(x-(amz|goog)-)?signature|access_(token|key)|api_?key|sharedaccesskey|"
    r"accountkey)=",
    re.IGNORECASE,
)
# An option of Java sets a property, which has a name of its own.
_PROPERTIES = re.compile(r"-D([\w.-]+)=(\S+)")
# A secret key of AWS may have slashes; a service without users has an empty one.
_USER_INFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/@\s:]*:(?![0-9]*/)[^@\s]+@", re.IGNORECASE)


def holds_secret(name: str, value: str) -> bool:
    """Return whether the setting is a secret, or its value carries one (in a URL, an option of Java, a key's own form).

    The location of a secret (a key file, a provider's class, a lifetime, true and false) is not one.
    """
    if carries_secret(value):
        return True
    if any(holds_secret(*each) for each in _PROPERTIES.findall(value)):
        return True
    plain = re.sub(r"^spark\.(hadoop|hive)\.", "", name)
    words = _words(plain)
    number = re.fullmatch(r"[0-9.]+\s*[a-z]{0,4}", value.strip())
    if value.strip().lower() in ("true", "false", "") or (number and _COUNTED.search(words)):
        return False
    if _NOT_THE_SECRET.search(words):
        return False
    # The owner of a secret may follow its name: an account, a bucket, a host.
    parts = plain.split(".")
    owners = (_words(".".join(parts[:count])) for count in range(1, len(parts)))
    return bool(_SECRET_NAMES.search(words) or _SECRET_PREFIXES.search(plain)) or any(
        _SECRET_NAMES.search(owner) and not owner.endswith(_NAMES_OF_MANY) for owner in owners
    )


def carries_secret(value: str) -> bool:
    """Return whether a text of any setting has a secret in it: a password or a signature in a URL, a key."""
    return has_user_info(value) or _SECRET_VALUES.search(value) is not None


def has_user_info(url: str) -> bool:
    """Return whether a URL names a user with a password, as in s3://key:secret@bucket."""
    return bool(_USER_INFO.search(url))


def _words(name: str) -> str:
    """spark.ssl.keyStorePassword → spark ssl key store password."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.sub(r"[^a-z0-9]+", " ", apart.lower()).strip()
