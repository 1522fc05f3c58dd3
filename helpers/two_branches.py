"""Two vision transformers, one for a photo and one for its segmentation map, whose class tokens attend to each other.

The idea is that of TransLocator (Pramanick et al., *Where in the World is this Image? Transformer-based
Geo-localization in the Wild*, ECCV 2022): what is where in a photo changes less with weather, light and season than
its colours do, so a second branch that sees nothing else makes the first look at what stays.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

OF_PHOTOS = "branches.0."
"""How the names of the layers of the branch begin that sees the photo."""
EXCHANGES = 4
"""How often the class tokens attend to each other, at equal distances, the last time after the last block."""


class Exchange(nn.Module):
    """Attention of the two class tokens to one another and to themselves.

    What it adds is nothing at first, so that branches with learned weights begin as the networks that they are.

    Parameters
    ----------
    features : int
        Of a token.
    heads : int
        Of the attention.

    Examples
    --------
    >>> tokens = torch.rand(5, 2, 8)
    >>> torch.equal(Exchange(8, 2)(tokens), tokens)
    True
    """

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Class tokens of both branches, of shape (n, 2, features), after they have seen each other."""
        normed = self.norm(tokens)
        seen, _ = self.attention(normed, normed, normed, need_weights=False)
        return tokens + seen


class TwoBranches(nn.Module):
    """Two copies of a vision transformer that exchange what their class tokens have seen.

    Parameters
    ----------
    network : nn.Module
        A vision transformer of torchvision or timm without its classifier, see :func:`class_token_problem`. It becomes
        the branch of the photos; a copy of it that of the maps.
    features : int
        Of its class token.
    """

    def __init__(self, network: nn.Module, features: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([network, copy.deepcopy(network)])
        blocks = len(_blocks(network))
        self.depths = sorted({max(1, round(blocks * number / EXCHANGES)) for number in range(1, EXCHANGES + 1)})
        self.exchanges = nn.ModuleList([Exchange(features, _attention_heads(network)) for _ in self.depths])

    def forward(self, photos: Tensor, maps: Tensor) -> Tensor:
        """Features of normalised photos and coloured maps, both of shape (n, 3, height, width).

        Returns
        -------
        Tensor of shape (n, 2 * features)
            The class tokens of both, side by side.
        """
        streams = [_start(branch, given) for branch, given in zip(self.branches, (photos, maps), strict=True)]
        exchanges = dict(zip(self.depths, self.exchanges, strict=True))
        for depth, pair in enumerate(zip(*map(_blocks, self.branches), strict=True), start=1):
            streams = [block(tokens) for block, tokens in zip(pair, streams, strict=True)]
            if depth in exchanges:
                tokens = exchanges[depth](torch.stack([stream[:, 0] for stream in streams], dim=1))
                streams = [
                    torch.cat([tokens[:, number, None], stream[:, 1:]], dim=1) for number, stream in enumerate(streams)
                ]
        return torch.cat(
            [_class_token(branch, stream) for branch, stream in zip(self.branches, streams, strict=True)], 1
        )


def class_token_problem(network: Any) -> str:
    """Why a network cannot be a branch, or nothing if it can: it needs blocks in a row and a class token that is read.

    Examples
    --------
    >>> class_token_problem(nn.Linear(2, 2))
    'it is no vision transformer'
    """
    if type(network).__name__ != "VisionTransformer":  # both libraries call it so
        return "it is no vision transformer"
    if _is_of_timm(network) and (network.cls_token is None or network.global_pool != "token"):
        return "it reads no class token"
    return ""


def _is_of_timm(network: Any) -> bool:
    return hasattr(network, "patch_embed")


def _blocks(network: Any) -> Sequence[nn.Module]:
    return network.blocks if _is_of_timm(network) else network.encoder.layers


def _attention_heads(network: Any) -> int:
    block: Any = next(iter(_blocks(network)))
    return block.attn.num_heads if _is_of_timm(network) else block.num_heads


def _start(network: Any, pictures: Tensor) -> Tensor:
    """Tokens of pictures as the first block takes them, the class token first."""
    if _is_of_timm(network):
        return network.norm_pre(network.patch_drop(network._pos_embed(network.patch_embed(pictures))))
    patches = network._process_input(pictures)
    tokens = torch.cat([network.class_token.expand(len(patches), -1, -1), patches], dim=1)
    return network.encoder.dropout(tokens + network.encoder.pos_embedding)


def _class_token(network: Any, tokens: Tensor) -> Tensor:
    """What the network itself makes of its class token after the last block."""
    if _is_of_timm(network):
        return network.forward_head(network.norm(tokens), pre_logits=True)
    return network.encoder.ln(tokens)[:, 0]
