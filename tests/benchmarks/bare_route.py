"""What a route costs that does nothing: FastAPI as its tutorial has it, a small message in, a small message
out."""
from fastapi import FastAPI
from pydantic import BaseModel


class Question(BaseModel):
    """What is asked."""
    experiment: str = "default"
    symbol: str


app = FastAPI()


@app.post("/predict")
async def predict(question: Question) -> dict:
    """One number, always the same."""
    return {"symbol": question.symbol, "probability": 0.5, "version": 1}
