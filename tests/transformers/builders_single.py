"""Every case of this group: ``CASES`` has one function for each."""

from __future__ import annotations

from collections.abc import Callable

import cases_allegro
import cases_bria_fibo
import cases_bria_fibo2
import cases_cogvideox
import cases_cosmos
import cases_deepfloyd
import cases_easyanimate
import cases_ernie
import cases_hunyuan_dit
import cases_hunyuan_video
import cases_hunyuan_video15
import cases_ideogram4
import cases_kandinsky5
import cases_krea2
import cases_ldm
import cases_ltx
import cases_ltx2
import cases_lumina
import cases_mochi
import cases_nucleus
import cases_omnigen
import cases_pixart
import cases_prx
import cases_sana
import cases_unclip
import cases_wan
import cases_wan_variants
import cases_z_image
from dense_oracle import Case

__all__ = ["CASES"]

CASES: dict[str, Callable[[], Case]] = {
    **cases_z_image.CASES,
    **cases_pixart.CASES,
    **cases_sana.CASES,
    **cases_lumina.CASES,
    **cases_hunyuan_dit.CASES,
    **cases_ldm.CASES,
    **cases_unclip.CASES,
    **cases_deepfloyd.CASES,
    **cases_omnigen.CASES,
    **cases_ernie.CASES,
    **cases_prx.CASES,
    **cases_krea2.CASES,
    **cases_kandinsky5.CASES,
    **cases_cosmos.CASES,
    **cases_hunyuan_video.CASES,
    **cases_allegro.CASES,
    **cases_mochi.CASES,
    **cases_cogvideox.CASES,
    **cases_ltx.CASES,
    **cases_easyanimate.CASES,
    **cases_ltx2.CASES,
    **cases_wan.CASES,
    **cases_wan_variants.CASES,
    **cases_bria_fibo.CASES,
    **cases_nucleus.CASES,
    **cases_ideogram4.CASES,
    **cases_hunyuan_video15.CASES,
    **cases_bria_fibo2.CASES,
}
