"""Asks an application in this process over HTTP, as somebody, from some address; no server, no port."""
import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from mlfin.serve.auth import Accounts, Rules
from mlfin.serve.credentials import Hashing
from mlfin.serve.roles import ROLES
from mlfin.serve.users import add_user

PASSWORD = "correct horse battery"
CHEAP = Hashing(time_cost=1, memory_kb=8, parallelism=1)


class Client:
    """Asks an application in this process, as somebody."""
    def __init__(self, app):
        self.app, self.tokens = app, {}

    def __call__(self, method, path, as_=None, headers=None, address="127.0.0.1", **given):
        async def ask():
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://mlfin") as client:
                mine = {"authorization": f"Bearer {self.tokens[as_]}"} if as_ else {}
                return await client.request(method, path, headers=mine | (headers or {}), **given)
        with ThreadPoolExecutor(1) as thread:  # a browser that another test of this worker drives may keep a loop here
            return thread.submit(asyncio.run, ask()).result()

    def login(self, name, **more):
        answer = self("POST", "/v1/auth/token", data={"username": name, "password": PASSWORD, **more}, address="198.51.100.1")
        assert answer.status_code == 200, answer.text
        self.tokens[name] = answer.json()["access_token"]
        return answer.json()


def accounts_of_each_role(url, **given):
    """Accounts with somebody of each role, called like it, and `boss`, a second administrator."""
    accounts = Accounts(url, profile="test", hashing=CHEAP, rules=given.pop("rules", Rules()), **given)
    for role in ROLES:
        add_user(accounts, role, role, PASSWORD)
    add_user(accounts, "boss", "administrator", PASSWORD)
    return accounts


class Clock:
    """The moment when it was made, and how far a test is ahead of it: it stands still, however long the machine takes."""
    ahead = 0.0

    def __init__(self):
        self.start = time.time()

    def __call__(self):
        return self.start + self.ahead


def house(folder, rules=None, clock=None):
    """A service without a model in a folder of its own, with somebody of each role logged in: a `Client` with `api`, `clock`, `folder`."""
    from mlfin.data.lake import Lake
    from mlfin.serve.api import Api, create_app
    from mlfin.serve.service import Service

    from .job_worker import settings_of

    places = dict(store=f"{folder}/lake", mlflow=f"sqlite:///{folder}/mlflow.db", artifacts=f"{folder}/artifacts", ledger=f"{folder}/trials.sqlite",
                  accounts=f"sqlite:///{folder}/accounts.sqlite", limit_user="", limit_address="", serve_workers=1)
    settings, clock = settings_of(folder).model_copy(update=places), clock or Clock()
    accounts = accounts_of_each_role(settings.accounts, rules=rules or Rules(), clock=clock, stale=0.0)
    client = Client(create_app(settings, Api(settings, Service(settings, Lake(folder / "lake")), accounts)))
    client.api, client.clock, client.folder, client.accounts = client.app.api, clock, folder, accounts
    if rules is None:
        for name in (*ROLES, "boss"):
            client.login(name)
    return client
