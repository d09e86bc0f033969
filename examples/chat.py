"""A chat of two turns, streamed; the second turn reads only what is new."""

import nextok as nt

conversation = nt.Conversation(nt.load("smollm2"), system="You answer in one short sentence.")
for question in ("What is the capital of Italy?", "And of Spain?"):
    print("user:", question, "\nassistant: ", end="")
    answer = conversation.ask(question, nt.Greedy(), max_tokens=24)
    for piece in answer:
        print(piece.text, end="", flush=True)
    print()
    conversation.keep(question, answer.output().text)
