"""The page: who is speaking, in a browser. Answers come from the other rooms; Gradio shows them."""
