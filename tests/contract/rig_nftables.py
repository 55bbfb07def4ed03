"""The backend `nftables` under the contract."""

from redirector.nftables import Nftables
from tests.contract.driven import Driven, root_and


def missing() -> str:
    return root_and("nft", "ip", "setpriv")


class Rig(Driven):
    declaration = Nftables.declaration
