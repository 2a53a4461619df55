"""Where a client's URL leads, as people read it, and options that a URL may not have."""

import pytest

from jobcast.client.address import address, where
from jobcast.redis.connection import check_url

SENTINELS = (
    "rediss+sentinel://user:pa%2Fss@one,two:26380,[::1]:3/mymaster/2?sentinel_password=s3cret&ssl_cert_reqs=none"
)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (SENTINELS, "one:26379, two:26380, ::1:3, service mymaster, database 2"),
        ("redis+sentinel://one/mymaster", "one:26379, service mymaster"),
        ("redis+cluster://:pw@one,two:7001", "one:6379, two:7001"),
        ("rediss+cluster://one:1/0?ssl_ca_certs=/ca.pem", "one:1"),
        ("redis://user:pw@one/3", "one:6379, database 3"),
    ],
)
def test_where_a_url_leads_is_said_without_its_account(url: str, said: str) -> None:
    assert where(address(url)) == said
    assert check_url(url) == url


@pytest.mark.parametrize("option", ["sentinel_password=x", "no_such=1", "retry=3", "finder=x"])
def test_an_option_that_is_not_for_this_url_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=r"after the \?"):
        address(f"redis://one/0?{option}")
