"""Checks countries and states of addresses, for accounts with the setting `places_checked`.

The real Authorize.Net accepts any text in both.
"""

from collections.abc import Mapping
from typing import Any, Final

from authorizenet_simulator.state.settings import Settings
from authorizenet_simulator.wire.codes import MESSAGES
from authorizenet_simulator.wire.replies import ApiError

_ISO_3166: Final = """
    ADAND AEARE AFAFG AGATG AIAIA ALALB AMARM AOAGO AQATA ARARG ASASM ATAUT AUAUS AWABW AXALA
    AZAZE BABIH BBBRB BDBGD BEBEL BFBFA BGBGR BHBHR BIBDI BJBEN BLBLM BMBMU BNBRN BOBOL BQBES
    BRBRA BSBHS BTBTN BVBVT BWBWA BYBLR BZBLZ CACAN CCCCK CDCOD CFCAF CGCOG CHCHE CICIV CKCOK
    CLCHL CMCMR CNCHN COCOL CRCRI CUCUB CVCPV CWCUW CXCXR CYCYP CZCZE DEDEU DJDJI DKDNK DMDMA
    DODOM DZDZA ECECU EEEST EGEGY EHESH ERERI ESESP ETETH FIFIN FJFJI FKFLK FMFSM FOFRO FRFRA
    GAGAB GBGBR GDGRD GEGEO GFGUF GGGGY GHGHA GIGIB GLGRL GMGMB GNGIN GPGLP GQGNQ GRGRC GSSGS
    GTGTM GUGUM GWGNB GYGUY HKHKG HMHMD HNHND HRHRV HTHTI HUHUN IDIDN IEIRL ILISR IMIMN ININD
    IOIOT IQIRQ IRIRN ISISL ITITA JEJEY JMJAM JOJOR JPJPN KEKEN KGKGZ KHKHM KIKIR KMCOM KNKNA
    KPPRK KRKOR KWKWT KYCYM KZKAZ LALAO LBLBN LCLCA LILIE LKLKA LRLBR LSLSO LTLTU LULUX LVLVA
    LYLBY MAMAR MCMCO MDMDA MEMNE MFMAF MGMDG MHMHL MKMKD MLMLI MMMMR MNMNG MOMAC MPMNP MQMTQ
    MRMRT MSMSR MTMLT MUMUS MVMDV MWMWI MXMEX MYMYS MZMOZ NANAM NCNCL NENER NFNFK NGNGA NINIC
    NLNLD NONOR NPNPL NRNRU NUNIU NZNZL OMOMN PAPAN PEPER PFPYF PGPNG PHPHL PKPAK PLPOL PMSPM
    PNPCN PRPRI PSPSE PTPRT PWPLW PYPRY QAQAT REREU ROROU RSSRB RURUS RWRWA SASAU SBSLB SCSYC
    SDSDN SESWE SGSGP SHSHN SISVN SJSJM SKSVK SLSLE SMSMR SNSEN SOSOM SRSUR SSSSD STSTP SVSLV
    SXSXM SYSYR SZSWZ TCTCA TDTCD TFATF TGTGO THTHA TJTJK TKTKL TLTLS TMTKM TNTUN TOTON TRTUR
    TTTTO TVTUV TWTWN TZTZA UAUKR UGUGA UMUMI USUSA UYURY UZUZB VAVAT VCVCT VEVEN VGVGB VIVIR
    VNVNM VUVUT WFWLF WSWSM YEYEM YTMYT ZAZAF ZMZMB ZWZWE
"""
"""The two-letter and three-letter code of each country."""
COUNTRIES: Final = frozenset(code for pair in _ISO_3166.split() for code in (pair[:2], pair[2:]))
_US_STATES: Final = """
    AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ
    NM NY NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY AS GU MP PR VI AA AE AP
"""
_CANADIAN_STATES: Final = "AB BC MB NB NL NS NT NU ON PE QC SK YT"
STATES: Final[Mapping[str, frozenset[str]]] = {
    country: frozenset(states.split())
    for countries, states in ((("US", "USA"), _US_STATES), (("CA", "CAN"), _CANADIAN_STATES))
    for country in countries
}
"""Country -> postal codes of its states, for the countries whose states are checked."""
_SHOWN: Final = {"billTo": "Bill-To", "shipTo": "Ship-To"}


def check(settings: Settings, tree: Mapping[str, Any]) -> None:
    """Check `billTo` and `shipTo` of `tree`, if the account's setting is on. Raises ApiError
    E00082 for a country that is no ISO 3166 code, E00085 for a state not in its country."""
    if not settings.places_checked:
        return
    for name, shown in _SHOWN.items():
        address: Mapping[str, str] = tree.get(name) or {}
        country = address.get("country", "").strip().upper()
        state = address.get("state", "").strip().upper()
        if country and country not in COUNTRIES:
            raise ApiError("E00082", MESSAGES["E00082"].format(shown))
        if state and state not in STATES.get(country, (state,)):
            raise ApiError("E00085", MESSAGES["E00085"].format(shown))
