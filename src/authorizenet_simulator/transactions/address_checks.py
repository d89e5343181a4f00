"""Checks countries and states of addresses, for accounts whose setting `places_checked` is on.

The real processor accepts any text in both.
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
"""Both codes of each country, two letters and three."""
COUNTRIES: Final = frozenset(code for pair in _ISO_3166.split() for code in (pair[:2], pair[2:]))
_AMERICAN: Final = """
    AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ
    NM NY NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY AS GU MP PR VI AA AE AP
"""
_CANADIAN: Final = "AB BC MB NB NL NS NT NU ON PE QC SK YT"
STATES: Final[Mapping[str, frozenset[str]]] = {
    country: frozenset(states.split())
    for countries, states in ((("US", "USA"), _AMERICAN), (("CA", "CAN"), _CANADIAN))
    for country in countries
}
"""Of the countries whose states are known here: the two letters that the post uses."""
_SHOWN: Final = {"billTo": "Bill-To", "shipTo": "Ship-To"}


def check(settings: Settings, tree: Mapping[str, Any]) -> None:
    """Look at the `billTo` and `shipTo` of `tree`, as far as the account wants it. Raises ApiError:
    E00082 for a country that is no ISO 3166 code, E00085 for no state of its country."""
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
