// Makes elements. Whatever a user, a model or a server wrote gets into the page here, as text and never as HTML.

/**
 * @param {string} tag
 * @param {object} properties of the element (not attributes).
 * @param {(Node|string)[]} children strings become text nodes.
 */
export function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** A share as people read it: 0.834 → "83.4%". */
export function percent(share) {
  return share > 0 && share < 0.0005 ? "<0.1%" : (100 * share).toFixed(1) + "%";
}
