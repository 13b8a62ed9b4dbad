"""What the codes say where the words do not: RFC 3463 and its registry, with what large systems made of some of them."""

from __future__ import annotations

from collections.abc import Mapping

from mailhub.lib.replies.verdicts import Category

# Without the class, which says only whether it is for now.
ENHANCED: Mapping[str, Category] = {
    "1.1": Category.USER_UNKNOWN,
    "1.2": Category.HOST_UNKNOWN,
    "1.3": Category.USER_UNKNOWN,  # no address at all
    "1.4": Category.USER_UNKNOWN,  # more than one mailbox has this name
    "1.6": Category.USER_UNKNOWN,  # moved, and nobody knows where
    "1.7": Category.REJECTED,  # not a sender's address
    "1.8": Category.REJECTED,  # the sender's domain does not exist
    "1.9": Category.SYSTEM,
    "1.10": Category.USER_UNKNOWN,  # a null MX (RFC 7505); Exchange says it of unknown recipients
    "2.1": Category.SUSPENDED,
    "2.2": Category.MAILBOX_FULL,
    "2.3": Category.TOO_BIG,  # larger than this mailbox takes
    "2.4": Category.SYSTEM,  # a list could not be expanded
    "3.1": Category.SYSTEM,  # their disk is full
    "3.2": Category.SYSTEM,  # not accepting mail now
    "3.3": Category.SYSTEM,
    "3.4": Category.TOO_BIG,
    "3.5": Category.SYSTEM,
    "4.1": Category.NETWORK,
    "4.2": Category.NETWORK,
    "4.3": Category.NETWORK,  # a directory server
    "4.4": Category.HOST_UNKNOWN,  # no route
    "4.5": Category.RATE_LIMITED,
    "4.6": Category.NETWORK,  # a loop
    "4.7": Category.EXPIRED,
    "4.14": Category.NETWORK,  # Exchange: a loop
    "5.1": Category.SYSTEM,
    "5.2": Category.SYSTEM,
    "5.3": Category.RATE_LIMITED,  # too many recipients
    "5.4": Category.SYSTEM,
    "5.6": Category.SYSTEM,
    "6.1": Category.CONTENT,
    "6.2": Category.CONTENT,
    "6.3": Category.CONTENT,
    "6.5": Category.CONTENT,
    "6.6": Category.CONTENT,
    "6.7": Category.CONTENT,
    "7.2": Category.REJECTED,  # not allowed to post to this list
    "7.3": Category.BLOCKED,
    "7.4": Category.BLOCKED,
    "7.5": Category.BLOCKED,
    "7.6": Category.BLOCKED,
    "7.7": Category.BLOCKED,
    "7.8": Category.BLOCKED,
    "7.9": Category.BLOCKED,
    "7.13": Category.SUSPENDED,
    "7.17": Category.USER_UNKNOWN,  # the mailbox has a new owner (RFC 7293)
    "7.18": Category.HOST_UNKNOWN,  # the domain has
    "7.20": Category.AUTH_FAILURE,
    "7.21": Category.AUTH_FAILURE,
    "7.22": Category.AUTH_FAILURE,
    "7.23": Category.AUTH_FAILURE,
    "7.24": Category.AUTH_FAILURE,
    "7.25": Category.BLOCKED,  # no PTR
    "7.26": Category.AUTH_FAILURE,
    "7.27": Category.AUTH_FAILURE,  # the sender's domain takes no mail; at Gmail SPF
    "7.28": Category.RATE_LIMITED,
    "7.29": Category.NETWORK,  # Gmail: no TLS
    "7.30": Category.AUTH_FAILURE,
    "7.31": Category.AUTH_FAILURE,
    "7.32": Category.AUTH_FAILURE,
    "7.40": Category.AUTH_FAILURE,
    "7.509": Category.AUTH_FAILURE,
    "7.515": Category.AUTH_FAILURE,
}

# These name no detail, or one that is used for anything: words that say little still say more.
VAGUE: Mapping[str, Category] = {
    "1.0": Category.REJECTED,
    "2.0": Category.REJECTED,
    "3.0": Category.SYSTEM,
    "4.0": Category.NETWORK,
    "5.0": Category.SYSTEM,
    "6.0": Category.CONTENT,
    "7.0": Category.BLOCKED,
    "7.1": Category.BLOCKED,
}

# RFC 5321 codes, looked at last of all.
BASIC: Mapping[int, Category] = {
    421: Category.TEMPORARY,
    422: Category.MAILBOX_FULL,
    450: Category.TEMPORARY,
    451: Category.SYSTEM,
    452: Category.SYSTEM,
    500: Category.SYSTEM,
    501: Category.SYSTEM,
    502: Category.SYSTEM,
    503: Category.SYSTEM,
    521: Category.HOST_UNKNOWN,  # RFC 7504: takes no mail
    523: Category.TOO_BIG,
    530: Category.BLOCKED,
    535: Category.BLOCKED,
    550: Category.REJECTED,
    551: Category.REJECTED,
    552: Category.MAILBOX_FULL,
    553: Category.REJECTED,
    554: Category.REJECTED,
    556: Category.HOST_UNKNOWN,  # RFC 7504: the domain takes no mail
}
