for (const button of document.querySelectorAll('th button')) {
  button.addEventListener('click', () => {
    const head = button.parentElement;
    const column = head.cellIndex;
    const down = head.getAttribute('aria-sort') === 'ascending';
    for (const other of head.parentElement.cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const body = head.closest('table').tBodies[0];
    const key = row => row.cells[column].dataset.key;
    const number = head.classList.contains('n');
    const rows = [...body.rows].sort((a, b) => number ? key(a) - key(b) : key(a).localeCompare(key(b)));
    body.append(...(down ? rows.reverse() : rows));
  });
}
