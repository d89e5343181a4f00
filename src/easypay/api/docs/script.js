// Copy buttons, and the section in view marked in the navigation.
if (navigator.clipboard) for (const pre of document.querySelectorAll("pre")) {
  const box = document.createElement("div"), button = document.createElement("button");
  box.className = "copy";
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(pre.innerText);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  pre.replaceWith(box);
  box.append(pre, button);
}
const here = document.querySelector("nav details");
if (here && matchMedia("(max-width: 64rem)").matches) here.removeAttribute("open");
const links = [...document.querySelectorAll('nav a[href^="#"]')];
const heads = links.map((link) => document.getElementById(link.hash.slice(1)));
function mark() {
  let now = -1;
  heads.forEach((head, n) => { if (head && head.getBoundingClientRect().top < 120) now = n; });
  links.forEach((link, n) => {
    if (n !== now) link.removeAttribute("aria-current");
    else if (!link.hasAttribute("aria-current")) {
      link.setAttribute("aria-current", "true");
      if (getComputedStyle(link.closest("nav")).position === "fixed") link.scrollIntoView({ block: "nearest" });
    }
  });
}
addEventListener("scroll", mark, { passive: true });
mark();
