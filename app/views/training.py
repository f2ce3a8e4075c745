"""The former address of the page Train: old links lead on to it."""

import streamlit as st

if __name__ == "__main__":
    st.switch_page("views/train.py", query_params={name: st.query_params.get_all(name) for name in st.query_params})
