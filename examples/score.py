"""Which of two sentences does the model find more likely?"""

import nextok as nt

lm = nt.load("smollm2")
for text in ("The sun rises in the east.", "The sun rises in the fridge."):
    print(f"{lm.score(text).total:8.2f}  {text}")
