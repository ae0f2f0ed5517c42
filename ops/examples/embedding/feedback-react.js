// The element as a React component (17 and later); the page loads BURNISH_URL/static/burnish-feedback.js once.
import { createElement, useEffect, useRef } from "react";

// `renew` returns a promise of a fresh token; `onSaved` hears {id, name, value}.
export function Feedback({ token, renew, onSaved }) {
  const element = useRef(null);
  useEffect(() => {
    const node = element.current;
    const saved = (event) => onSaved?.(event.detail);
    const needed = async () => { node.token = await renew(); };
    node.addEventListener("burnish-saved", saved);
    node.addEventListener("burnish-token-needed", needed);
    return () => {
      node.removeEventListener("burnish-saved", saved);
      node.removeEventListener("burnish-token-needed", needed);
    };
  }, [renew, onSaved]);
  return createElement("burnish-feedback", { ref: element, token });
}
