"""The answers of `POST /predict` given by others, without authentication, limits, logs or counters: a raw
ASGI application, FastAPI and Litestar as their tutorials have them.

    python -m uvicorn peer_serve:raw|bare_fastapi|bare_litestar    ANSWERS: a JSON file, symbol -> prediction

Each answers a symbol, or several, with the whole prediction from memory; only its age is computed anew.
"""
import json
import os
import time
from pathlib import Path

import msgspec
from fastapi import FastAPI
from litestar import Litestar, post
from pydantic import BaseModel

ANSWERS = json.loads(Path(os.environ["ANSWERS"]).read_text())
SINCE = {name: time.time() - found["age_seconds"] for name, found in ANSWERS.items()}


def answers(symbols: list[str]) -> list[dict]:
    """What is said of some symbols now."""
    now = time.time()
    return [{**ANSWERS[name], "age_seconds": now - SINCE[name]} for name in symbols]


async def raw(scope, receive, send) -> None:
    """Nothing but the protocol: a body in, a body out."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"].removeprefix("lifespan.")
            await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown": return
    parts, more = [], scope["method"] == "POST"
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    data = b"{}"
    if parts:
        asked = msgspec.json.decode(b"".join(parts))
        data = msgspec.json.encode({"predictions": answers(asked.get("symbols") or [asked["symbol"]])})
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": data})


class Question(BaseModel):
    """What FastAPI is asked."""
    experiment: str = "default"
    symbol: str | None = None
    symbols: list[str] | None = None


bare_fastapi = FastAPI()


@bare_fastapi.post("/v1/predict")
async def predict(question: Question) -> dict:
    """FastAPI's route."""
    return {"predictions": answers(question.symbols or [question.symbol])}


class Asked(msgspec.Struct):
    """What Litestar is asked."""
    experiment: str = "default"
    symbol: str | None = None
    symbols: list[str] | None = None


@post("/v1/predict", status_code=200)
async def predict_quickly(data: Asked) -> dict:
    """Litestar's route."""
    return {"predictions": answers(data.symbols or [data.symbol])}


bare_litestar = Litestar([predict_quickly], openapi_config=None, logging_config=None)
