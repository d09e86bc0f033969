"""A chat of two turns, streamed; the second turn reads only what is new."""

import nextok as nt

conversation = nt.Conversation(nt.load("smollm2"), system="You answer in one short sentence.")
for question in ("What is the capital of Italy?", "And of Spain?"):
    print("user:", question, "\nassistant: ", end="")
    for piece in conversation.ask(question, nt.Greedy(), max_tokens=24):
        print(piece.text, end="", flush=True)
    print()
